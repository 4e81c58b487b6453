import { MeshError } from '../protocol/index.js'

/**
 * Credit bounds what a sender may have under way that its reader has not consumed: of a generation and of each body of a
 * fetch. A message costs its bytes and something more, so that a flood of tiny ones is bounded too.
 *
 * A sender may send while it has credit left, and its last message may overdraw it. A reader refuses what comes without
 * credit, and gives credit back in quarters of the window, to save messages.
 */
export interface CreditWindow {
  /** How much may be under way. */
  readonly bytes: number
  /** What a message costs besides its own bytes. */
  readonly perMessage: number
}

const CREDIT_BYTES = 4

/** Credit as it stands on the wire. */
export function encodeCredit(credit: number): Buffer {
  const bytes = Buffer.allocUnsafe(CREDIT_BYTES)
  bytes.writeUInt32LE(credit)
  return bytes
}

/** @throws MeshError BAD_REQUEST */
export function decodeCredit(bytes: Uint8Array): number {
  if (bytes.byteLength !== CREDIT_BYTES) {
    throw MeshError.BAD_REQUEST(`A credit has ${bytes.byteLength} bytes; expected ${CREDIT_BYTES}`)
  }
  return Buffer.from(bytes.buffer, bytes.byteOffset, CREDIT_BYTES).readUInt32LE()
}

/** Lets several wait for the next change of something. */
class Change {
  #waiting: (() => void)[] = []

  next(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  tell(): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const resolve of waiting) resolve()
  }
}

/** The sending end: what it may still send. */
export class SendCredit {
  readonly #window: CreditWindow
  readonly #change = new Change()
  #left: number
  #closed = false

  constructor(window: CreditWindow) {
    this.#window = window
    this.#left = window.bytes
  }

  /** Whether a message may be sent now. */
  get isLeft(): boolean {
    return this.#left > 0
  }

  /** Counts a message that is sent. */
  spend(bytes: number): void {
    this.#left -= bytes + this.#window.perMessage
  }

  /** Takes what the reader gives back. However much that is, no more than the window is left. */
  add(credit: number): void {
    this.#left = Math.min(this.#window.bytes, this.#left + credit)
    this.#change.tell()
  }

  /** Resolves once a message may be sent, or nobody reads any more. */
  async available(): Promise<void> {
    while (!this.isLeft && !this.#closed) await this.#change.next()
  }

  /** Nobody reads any more: who waits is let go. */
  close(): void {
    this.#closed = true
    this.#change.tell()
  }
}

/** The reading end: what came and waits to be consumed, in order. Consuming it is what lets more come. */
export class CreditQueue<T> {
  readonly #window: CreditWindow
  readonly #giveBack: (credit: number) => void
  readonly #change = new Change()
  readonly #waiting: { item: T; cost: number }[] = []
  /** Cost that came and was not given back yet, and the part of it that was consumed. */
  #owed = 0
  #consumed = 0
  #ended = false
  #failure: MeshError | undefined

  /** @param giveBack tells the sender that it may send so much more */
  constructor(window: CreditWindow, giveBack: (credit: number) => void) {
    this.#window = window
    this.#giveBack = giveBack
  }

  /** Whether all has come. */
  get ended(): boolean {
    return this.#ended
  }

  /** Whether nothing more will come, be it whole or not. */
  get over(): boolean {
    return this.#ended || this.#failure !== undefined
  }

  /** Takes one message. @throws MeshError BAD_REQUEST where its sender had no credit left */
  push(item: T, bytes: number): void {
    if (this.#owed >= this.#window.bytes) throw MeshError.BAD_REQUEST('The other side sent more than its credit')
    const cost = bytes + this.#window.perMessage
    this.#owed += cost
    this.#waiting.push({ item, cost })
    this.#change.tell()
  }

  /** What came is all there is. */
  end(): void {
    this.#ended = true
    this.#change.tell()
  }

  /** Breaks off: reading throws once what came before is consumed. Does nothing after the end. */
  fail(err: MeshError): void {
    if (!this.#ended) this.#failure ??= err
    this.#change.tell()
  }

  /** What comes, in order. @param onEnd called when the reader leaves or has all @throws MeshError: why it broke off */
  async *read(onEnd: () => void = () => {}): AsyncGenerator<T> {
    try {
      while (true) {
        const first = this.#waiting.shift()
        if (first !== undefined) {
          this.#consume(first.cost)
          yield first.item
        } else if (this.#failure !== undefined) throw this.#failure
        else if (this.#ended) return
        else await this.#change.next()
      }
    } finally {
      onEnd()
    }
  }

  #consume(cost: number): void {
    this.#consumed += cost
    if (this.over || this.#consumed < this.#window.bytes / 4) return
    const credit = this.#consumed
    this.#owed -= credit
    this.#consumed = 0
    this.#giveBack(credit)
  }
}
