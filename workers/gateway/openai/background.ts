import { setMaxListeners } from 'node:events'
import { type ChatMessage, type Finish, MeshError } from '../../../lib/protocol/index.js'
import { type Call, errorAnswer, type HeldRoom } from '../http/index.js'
import type { AnswerEvent } from '../requests/index.js'
import type { Stored } from '../stored/index.js'
import type { Item } from './response-input.js'
import type { Answered, ResponseBuilder } from './response-objects.js'
import { INTERRUPTED, ownerOf, responseDraft, UNSTORED } from './response-records.js'

/** Responses that are made whether their client waits or not. */

const IN_ALL = 1024
const PER_USER = 64
const RETRY_MS = 5000

/** A response to make in the background. */
export interface BackgroundWork {
  /** Runs its generation. @throws MeshError */
  generate: (context: Call, tell: (event: AnswerEvent) => void) => Promise<Finish>
  built: ResponseBuilder
  items: readonly Item[]
  messages: readonly ChatMessage[]
  /** What its request takes of memory, held to its end. */
  room: HeldRoom
}

interface Run {
  user: string
  end(how: 'cancelled' | 'interrupted'): Promise<void>
}

export class Background {
  readonly #stored: Stored
  readonly #runs = new Set<Run>()

  constructor(stored: Stored) {
    this.#stored = stored
  }

  /**
   * Begins to make a response. Once this has resolved it is stored as one that is being made.
   * @param tell told of each event besides
   * @returns resolves with the response as it has ended, however that was
   * @throws MeshError where it is not let in, RATE_LIMITED where too many are being made, DISK_FULL where it cannot be stored
   */
  async begin(
    work: BackgroundWork,
    call: Call,
    tell: (event: AnswerEvent) => void,
  ): Promise<{ ended: Promise<Answered> }> {
    const { built, generate, items, room } = work
    const owner = ownerOf(call)
    try {
      this.#assertMay(owner.user)
    } catch (err) {
      room.release()
      throw err
    }
    const controller = new AbortController()
    setMaxListeners(0, controller.signal)
    const createdAt = Date.now()
    let how: 'cancelled' | 'interrupted' | undefined
    let left = (): void => {}
    const isOver = new Promise<void>((resolve) => (left = resolve))
    const end: Run['end'] = (why) => {
      how ??= why
      controller.abort(MeshError.CANCELLED(`The response was ${why}`))
      return isOver
    }
    const run: Run = { user: owner.user, end }
    this.#runs.add(run)
    const detach = this.#stored.local.live.attach(owner, built.id, {
      object: () => JSON.stringify(built.snapshot()),
      cancel: () => end('cancelled'),
    })
    const leave = (): void => {
      detach()
      this.#runs.delete(run)
      room.release()
      left()
    }
    const put = (response: Answered, more: object) =>
      this.#stored.local.put(owner, responseDraft({ response, items, background: true, ...more }, createdAt))
    try {
      // Nobody is told of it before it can be found.
      let isStored = false
      const early: AnswerEvent[] = []
      const take = (event: AnswerEvent): void => {
        tell(event)
        built.add(event)
      }
      let begun = (): void => {}
      const isLetIn = new Promise<void>((resolve) => (begun = resolve))
      const generation = generate({ ...call, signal: controller.signal }, (event) => {
        begun()
        if (isStored) take(event)
        else early.push(event)
      })
      generation.catch(() => {})
      await Promise.race([isLetIn, generation])
      if (!(await put(built.snapshot(), { pending: true }))) {
        controller.abort(MeshError.CANCELLED('The response cannot be stored'))
        throw MeshError.DISK_FULL('A response in the background has to be stored, and there is no room for it', {
          retryAfterMs: RETRY_MS,
        })
      }
      isStored = true
      for (const event of early) take(event)
      const finishing = async (): Promise<Answered> => {
        let response: Answered
        let messages: readonly ChatMessage[] | undefined
        try {
          response = built.finish(await generation).response
          messages = [...work.messages, built.message]
        } catch (err) {
          const { code, message } = errorAnswer(err).error
          if (how === 'cancelled') response = built.cancel()
          else if (how === 'interrupted') response = built.fail(INTERRUPTED.code, INTERRUPTED.message)
          else response = built.fail(code ?? 'server_error', message)
        }
        if (await put(response, { messages })) return response
        const failed = { ...built.fail(UNSTORED.code, UNSTORED.message), output: [] }
        // Better gone than for ever under way.
        if (!(await put(failed, {}))) await this.#stored.local.forget(owner, built.id)
        return { ...response, store: false }
      }
      const ended = finishing().finally(leave)
      ended.catch(() => {})
      return { ended }
    } catch (err) {
      leave()
      throw err
    }
  }

  /** Ends all; what was not complete is stored as failed. */
  async close(): Promise<void> {
    await Promise.allSettled([...this.#runs].map((run) => run.end('interrupted')))
  }

  #assertMay(user: string): void {
    let own = 0
    for (const run of this.#runs) if (run.user === user) own++
    if (own < PER_USER && this.#runs.size < IN_ALL) return
    throw MeshError.RATE_LIMITED(
      own < PER_USER
        ? `This gateway makes ${this.#runs.size} responses in the background already`
        : `${own} responses of ${user} are made in the background at this gateway already; at most ${PER_USER}`,
      { retryAfterMs: RETRY_MS, param: 'background' },
    )
  }
}
