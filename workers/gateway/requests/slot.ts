/** What the scheduler knows of one processor that has a model. */
export interface Candidate {
  /** Public key. */
  id: string
  /** Sequences it can run at a time; a processor that has yet to load the model counts as one. */
  slots: number
  loaded: boolean
  /** Most tokens of prompt plus answer; absent until it is loaded. */
  contextLength?: number
}

/** A slot of one processor, held for one request. */
export interface Slot {
  readonly processor: string
  readonly queueMs: number
  /** The first token is there. */
  begun(): void
  /** Gives the slot back. @param tokens what the request used, for fairness between keys */
  release(tokens: number): void
  /** The processor said that it is full after all: gives the slot back and sends it nothing until its next report. */
  bounce(): void
}

export interface SlotRequest {
  model: string
  keyId: string
  /** Whose request it is: one user has a share of the queue. */
  user: string
  /**
   * Whose request must be prepared at length before its first token: of one user's, one at a time is placed at each
   * processor. Absent where nothing is to be prepared.
   */
  preparedFor?: string | undefined
  /** Processors that have already failed this request: only one that was taken up before has any. */
  avoid: ReadonlySet<string>
  /** A request that was taken up before goes to the front. */
  front: boolean
  signal: AbortSignal
  /** Told where the request stands, from 1, whenever that changes. */
  onPosition: (position: number) => void
}
