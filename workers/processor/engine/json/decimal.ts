/** A number exactly as it is written: `digits` divided by 10 to the power of `scale`, which is 0 or more. */
export interface Decimal {
  readonly digits: bigint
  readonly scale: number
}

/** The shortest decimal that is this number. Numbers beyond 10^400 or with more decimals than that do not exist. */
export function decimalOf(value: number): Decimal {
  const [, sign = '', whole = '0', part = '', power = '0'] =
    /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]\d+))?$/.exec(String(value)) ?? []
  const digits = BigInt(sign + whole + part)
  const scale = part.length - Number(power)
  return scale >= 0 ? { digits, scale } : { digits: digits * 10n ** BigInt(-scale), scale: 0 }
}

/** Two decimals' digits at the scale that holds both. */
export function atOneScale(a: Decimal, b: Decimal): [bigint, bigint, number] {
  const scale = Math.max(a.scale, b.scale)
  return [scaledTo(a, scale), scaledTo(b, scale), scale]
}

/** The digits at a scale that is no less than its own. */
export function scaledTo({ digits, scale }: Decimal, to: number): bigint {
  return digits * 10n ** BigInt(to - scale)
}

/** True where `value` is a whole number of times `of`, which is not 0. */
export function isMultiple(value: Decimal, of: Decimal): boolean {
  const [a, b] = atOneScale(value, of)
  return a % b === 0n
}

/** The whole number of times that `step` fits into `value`, rounded down. */
export function timesIn(value: Decimal, step: Decimal): bigint {
  const [a, b] = atOneScale(value, step)
  return floorOf(a, b)
}

/** The quotient, rounded down; `by` is more than 0. */
export function floorOf(value: bigint, by: bigint): bigint {
  const whole = value / by
  return value < 0n && whole * by !== value ? whole - 1n : whole
}

/** As JSON writes it, with as many decimals as its scale says. */
export function written({ digits, scale }: Decimal): string {
  const text = String(digits < 0n ? -digits : digits).padStart(scale + 1, '0')
  const whole = scale === 0 ? text : `${text.slice(0, -scale)}.${text.slice(-scale)}`
  return digits < 0n ? `-${whole}` : whole
}
