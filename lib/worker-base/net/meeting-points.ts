/** How often a node is asked whether it lives, and how often it may be silent before it does not. */
const PROBE_MS = 1000
const SILENT_PROBES = 3
/** Nodes that are asked at a time: what a directory or a file names is bounded before, this is for both together. */
const MAX_NODES = 32

interface Point {
  lastAt: number
  isProbing: boolean
  /** Silent probes in a row. */
  missed: number
  isAlive: boolean
}

export interface MeetingPointsOptions {
  /** Whether a node answers, as one of this mesh's. It never fails, and ends by itself. */
  probe: (node: string) => Promise<boolean>
  /** Told which nodes live, whenever that changes; and which of them did not before. */
  onChange: (alive: string[], returned: string[]) => void
  /** Milliseconds of a clock that never steps. */
  now: () => number
}

/**
 * Which of the DHT nodes that are known by their addresses live: they are asked side by side, again and again, so that one
 * that is gone delays nobody, and one that has come back is noticed within a second.
 */
export class MeetingPoints {
  readonly #options: MeetingPointsOptions
  readonly #points = new Map<string, Point>()

  constructor(options: MeetingPointsOptions) {
    this.#options = options
  }

  /** As `host:port`. */
  get alive(): string[] {
    return [...this.#points].flatMap(([node, { isAlive }]) => (isAlive ? [node] : []))
  }

  /** Says which nodes there may be, the most important first. */
  consider(nodes: Iterable<string>): void {
    const wanted = new Set([...nodes].slice(0, MAX_NODES))
    const before = this.alive.length
    for (const node of this.#points.keys()) if (!wanted.has(node)) this.#points.delete(node)
    for (const node of wanted) {
      if (this.#points.has(node)) continue
      this.#points.set(node, { lastAt: Number.NEGATIVE_INFINITY, isProbing: false, missed: 0, isAlive: false })
    }
    if (this.alive.length !== before) this.#options.onChange(this.alive, [])
    this.tick()
  }

  /** Call it often: asks those that are due. */
  tick(): void {
    const now = this.#options.now()
    for (const [node, point] of this.#points) {
      if (point.isProbing || now - point.lastAt < PROBE_MS) continue
      point.isProbing = true
      point.lastAt = now
      void this.#options.probe(node).then((answered) => this.#heard(node, point, answered))
    }
  }

  #heard(node: string, point: Point, answered: boolean): void {
    point.isProbing = false
    if (this.#points.get(node) !== point) return
    point.missed = answered ? 0 : point.missed + 1
    const isAlive = answered || (point.isAlive && point.missed < SILENT_PROBES)
    if (isAlive === point.isAlive) return
    point.isAlive = isAlive
    this.#options.onChange(this.alive, isAlive ? [node] : [])
  }
}
