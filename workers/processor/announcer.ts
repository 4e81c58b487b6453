import { MeshError, type Model } from '../../lib/protocol/index.js'

export interface Authority {
  announce(model: Model): Promise<unknown>
  withdraw(name: string): Promise<unknown>
}

/** The authority may be down, or may not know this processor as a member yet. */
const RETRY_MS = 500

/**
 * Keeps the directory's list of models in step with what this processor has: tells the authority until it has heard.
 * A refusal (the name stands for another file, or is not approved for this guest) is told to `onRefused` and not tried again until the link is new.
 */
export class Announcer {
  readonly #authority: Authority
  readonly #onRefused: (model: Model, reason: MeshError | undefined) => void
  readonly #retryMs: number
  #wanted = new Map<string, Model>()
  /** What the authority has answered, by name: the hash it knows or has refused. */
  readonly #answered = new Map<string, string>()
  readonly #refused = new Set<string>()
  #working: Promise<void> | undefined
  #again = false
  #timer: NodeJS.Timeout | undefined
  #stopped = false

  constructor(
    authority: Authority,
    onRefused: (model: Model, reason: MeshError | undefined) => void,
    retryMs = RETRY_MS,
  ) {
    this.#authority = authority
    this.#onRefused = onRefused
    this.#retryMs = retryMs
  }

  /** Sets what should be announced; what is no longer among it is withdrawn. */
  set(models: readonly Model[]): void {
    this.#wanted = new Map(models.map((model) => [model.name, model]))
    this.#wake()
  }

  /** Tells everything once more: the authority may be another one, or have changed its mind. */
  repeat(): void {
    for (const name of this.#answered.keys()) if (this.#wanted.has(name)) this.#answered.delete(name)
    this.#wake()
  }

  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  #wake(): void {
    if (this.#stopped) return
    this.#again = true
    this.#working ??= this.#work().finally(() => {
      this.#working = undefined
    })
  }

  async #work(): Promise<void> {
    clearTimeout(this.#timer)
    while (this.#again && !this.#stopped) {
      this.#again = false
      let failed = false
      for (const model of this.#wanted.values()) {
        if (this.#answered.get(model.name) !== model.hash && !(await this.#announce(model))) failed = true
      }
      for (const name of this.#answered.keys()) {
        if (!this.#wanted.has(name) && !(await this.#withdraw(name))) failed = true
      }
      if (failed && !this.#stopped) this.#timer = setTimeout(() => this.#wake(), this.#retryMs)
    }
  }

  /** @returns false where it has to be tried again */
  async #announce(model: Model): Promise<boolean> {
    try {
      await this.#authority.announce(model)
      if (this.#refused.delete(model.name)) this.#onRefused(model, undefined)
    } catch (err) {
      const failure = MeshError.from(err)
      if (!isRefusal(failure)) return false
      this.#refused.add(model.name)
      this.#onRefused(model, failure)
    }
    this.#answered.set(model.name, model.hash)
    return true
  }

  async #withdraw(name: string): Promise<boolean> {
    try {
      if (!this.#refused.delete(name)) await this.#authority.withdraw(name)
    } catch (err) {
      if (MeshError.from(err).code !== 'MODEL_NOT_FOUND') return false
    }
    this.#answered.delete(name)
    return true
  }
}

/** Whether asking again would be answered the same. Before it is known as a member a processor is not allowed to announce. */
function isRefusal({ code, details }: MeshError): boolean {
  return code === 'MODEL_CONFLICT' || code === 'BAD_REQUEST' || (code === 'FORBIDDEN' && details.reason === 'guest')
}
