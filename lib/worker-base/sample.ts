const WINDOW_MS = 60_000
/** Lines of one kind that are written in a minute. */
const PER_MINUTE = 10

/** What is logged of a failure. Its code and the message make its kind. */
interface Facts {
  readonly code: string
  readonly [fact: string]: unknown
}

interface Log {
  info(facts: object, message: string): void
  warn(facts: object, message: string): void
}

/** A log for what others can cause as often as they like: it holds a part of it, and how much more there was. */
export function sampled(log: Log) {
  const sample = new Sample(({ code, message, count }) => log.info({ code, count }, `${message}: more of the same`))
  const tell =
    (level: 'info' | 'warn') =>
    (facts: Facts, message: string): void => {
      if (sample.take(facts.code, message)) log[level](facts, message)
    }
  return { info: tell('info'), warn: tell('warn') }
}

interface Rest {
  code: string
  message: string
  count: number
}

/** Of each kind the first lines of a minute are told, and at its end how many more there were. */
export class Sample {
  readonly #tellRest: (rest: Rest) => void
  readonly #rests = new Map<string, Rest>()
  #timer: NodeJS.Timeout | undefined

  constructor(tellRest: (rest: Rest) => void) {
    this.#tellRest = tellRest
  }

  /** Counts one of a kind, of which there are few: each is remembered for a minute. @returns whether to tell of it */
  take(code: string, message: string): boolean {
    this.#timer ??= setTimeout(() => this.endMinute(), WINDOW_MS).unref()
    const kind = `${code} ${message}`
    const rest = this.#rests.get(kind) ?? { code, message, count: -PER_MINUTE }
    rest.count++
    this.#rests.set(kind, rest)
    return rest.count <= 0
  }

  endMinute(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const rests = [...this.#rests.values()]
    this.#rests.clear()
    for (const rest of rests) if (rest.count > 0) this.#tellRest(rest)
  }
}
