/** What a token says, once it is decoded: signs, and perhaps the beginning of one more. */
interface Decoded {
  readonly signs: readonly number[]
  readonly rest: HalfSign | undefined
}

/** The first bytes of a sign in UTF-8: what they say of it, and how many bytes are missing. */
export interface HalfSign {
  readonly value: number
  readonly missing: number
  /** The first sign that is written in so many bytes: a smaller one is written in fewer, and this is no UTF-8. */
  readonly least: number
}

/** A token as its model spells it. */
export interface Spelling {
  /** Empty: the token says nothing, and no grammar lets it through. */
  readonly bytes: Uint8Array
  /** True where it ends an answer. */
  readonly ends: boolean
}

/** Longer tokens are never let through. */
const MOST_SIGNS = 0xffff

/**
 * All tokens of a model in the order of what they say, so that those which begin alike stand together, and what is found
 * out about a beginning serves all of them.
 */
export class Tokens {
  readonly count: number
  /** Tokens that end an answer. */
  readonly ends: ReadonlySet<number>
  /** Token ids in order, and for each place: where its signs begin, and how many it shares with the place before. */
  readonly #order: Uint32Array
  readonly #from: Uint32Array
  readonly #shared: Uint16Array
  readonly #signs: Uint32Array
  /** By token id, its place; -1 where it has none. */
  readonly #places: Int32Array
  /** By token id. */
  readonly #rests = new Map<number, HalfSign>()
  /** Tokens that begin in the middle of a sign, by id. */
  readonly #middles = new Map<number, Uint8Array>()

  constructor(spellings: readonly Spelling[]) {
    this.count = spellings.length
    const ends = new Set<number>()
    const texts: { id: number; text: string; signs: readonly number[] }[] = []
    for (const [id, { bytes, ends: isEnd }] of spellings.entries()) {
      if (isEnd) {
        ends.add(id)
        continue
      }
      const [first = 0] = bytes
      if (first >> 6 === 2) this.#middles.set(id, bytes)
      const decoded = bytes.length > 0 ? decode(bytes) : undefined
      if (decoded === undefined || decoded.signs.length > MOST_SIGNS) continue
      texts.push({ id, text: String.fromCodePoint(...decoded.signs), signs: decoded.signs })
      if (decoded.rest) this.#rests.set(id, decoded.rest)
    }
    this.ends = ends
    texts.sort((a, b) => (a.text < b.text ? -1 : a.text > b.text ? 1 : 0))
    this.#order = Uint32Array.from(texts, ({ id }) => id)
    this.#from = new Uint32Array(texts.length + 1)
    this.#shared = new Uint16Array(texts.length)
    this.#places = new Int32Array(spellings.length).fill(-1)
    this.#signs = new Uint32Array(texts.reduce((sum, { signs }) => sum + signs.length, 0))
    let before: readonly number[] = []
    for (const [place, { id, signs }] of texts.entries()) {
      const from = this.#from[place] ?? 0
      this.#signs.set(signs, from)
      this.#from[place + 1] = from + signs.length
      this.#shared[place] = sharedLength(before, signs)
      this.#places[id] = place
      before = signs
    }
  }

  /** What a token says behind the first bytes of a sign; undefined where that is no text. */
  read(token: number, half: HalfSign | undefined): Decoded | undefined {
    if (half !== undefined) {
      const bytes = this.#middles.get(token)
      return bytes && decode(bytes, half)
    }
    const place = this.#places[token] ?? -1
    if (place < 0) return undefined
    const signs = this.#signs.subarray(this.#from[place], this.#from[place + 1])
    return { signs: [...signs], rest: this.#rests.get(token) }
  }

  /**
   * Tries all tokens, each sign of what several begin with once.
   * @param step what is behind a sign; undefined where it may not come
   * @param fits whether a token's last state and half a sign may be
   * @returns a bit for each token, 1 where it fits
   */
  fitting<S>(
    start: S,
    step: (state: S, sign: number) => S | undefined,
    fits: (state: S, rest: HalfSign | undefined) => boolean,
  ): Uint8Array {
    const bits = new Uint8Array((this.count + 7) >> 3)
    const states: S[] = [start]
    for (let place = 0; place < this.#order.length; place++) {
      const id = this.#order[place] ?? 0
      const shared = this.#shared[place] ?? 0
      // It begins with what was found not to fit.
      if (shared >= states.length) continue
      states.length = shared + 1
      const from = this.#from[place] ?? 0
      const length = (this.#from[place + 1] ?? 0) - from
      let state = states[shared]
      for (let i = shared; i < length && state !== undefined; i++) {
        state = step(state, this.#signs[from + i] ?? 0)
        if (state !== undefined) states.push(state)
      }
      if (state !== undefined && fits(state, this.#rests.get(id))) setBit(bits, id)
    }
    return bits
  }

  /** As `fitting`, for what follows the first bytes of a sign. */
  fittingMiddles(fits: (decoded: Decoded) => boolean, half: HalfSign): Uint8Array {
    const bits = new Uint8Array((this.count + 7) >> 3)
    for (const [id, bytes] of this.#middles) {
      const decoded = decode(bytes, half)
      if (decoded && fits(decoded)) setBit(bits, id)
    }
    return bits
  }
}

export function hasBit(bits: Uint8Array, token: number): boolean {
  return (((bits[token >> 3] ?? 0) >> (token & 7)) & 1) === 1
}

export function setBit(bits: Uint8Array, token: number): void {
  bits[token >> 3] = (bits[token >> 3] ?? 0) | (1 << (token & 7))
}

/** The code points that half a sign may become; undefined where its bytes begin none. */
export function rangeOf({ value, missing, least }: HalfSign): { first: number; last: number } | undefined {
  const first = Math.max(least, value << (6 * missing))
  const highest = Math.min(0x10ffff, (value << (6 * missing)) | ((1 << (6 * missing)) - 1))
  // Halves of pairs are the upper half of what 0xed begins.
  const last = isHalfPair(highest) ? FIRST_HALF_PAIR - 1 : highest
  return first <= last ? { first, last } : undefined
}

/** By how many bytes follow the first one. */
const LEAST = [0, 0x80, 0x800, 0x10000]

/** UTF-16 writes a sign as two of these; in UTF-8 there are none. */
const FIRST_HALF_PAIR = 0xd800
const LAST_HALF_PAIR = 0xdfff

function isHalfPair(value: number): boolean {
  return value >= FIRST_HALF_PAIR && value <= LAST_HALF_PAIR
}

/** @returns undefined where the bytes are no UTF-8, or not behind the half sign */
function decode(bytes: Uint8Array, half?: HalfSign): Decoded | undefined {
  const signs: number[] = []
  let { value, missing, least } = half ?? { value: 0, missing: 0, least: 0 }
  for (const byte of bytes) {
    if (missing > 0) {
      if (byte >> 6 !== 2) return undefined
      value = (value << 6) | (byte & 0x3f)
      missing--
    } else {
      missing = byte < 0x80 ? 0 : byte < 0xc2 ? -1 : byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : byte < 0xf5 ? 3 : -1
      if (missing < 0) return undefined
      value = missing === 0 ? byte : byte & (0x3f >> missing)
      least = LEAST[missing] ?? 0
    }
    if (missing === 0) {
      if (value < least || value > 0x10ffff || isHalfPair(value)) return undefined
      signs.push(value)
    }
  }
  return { signs, rest: missing > 0 ? { value, missing, least } : undefined }
}

function sharedLength(a: readonly number[], b: readonly number[]): number {
  const most = Math.min(a.length, b.length)
  let i = 0
  while (i < most && a[i] === b[i]) i++
  return i
}
