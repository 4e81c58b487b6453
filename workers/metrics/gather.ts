import { Counter, Histogram, type Registry } from 'prom-client'
import type { Link } from '../../lib/link/index.js'
import type { Logger, Net } from '../../lib/worker-base/index.js'
import { merge, render, type Source } from './exposition.js'
import { type Family, readFamilies } from './family.js'

/** A worker that has not answered by then is left out of this scrape, and counts as down. */
const COLLECT_MS = 1000
/** Only this worker says who is up. */
const UP = 'infermesh_up'

export interface GatherOptions {
  net: Net
  registry: Registry
  log: Logger
  self: { role: string; name: string }
}

/** Asks every linked member for its metrics and makes one exposition of the answers. */
export class Gatherer {
  readonly #options: GatherOptions
  readonly #duration: Histogram
  readonly #rejected: Counter<'role' | 'worker'>
  /** The workers that `#rejected` has a series of. */
  #counted: { role: string; worker: string }[] = []
  #gathering: Promise<string> | undefined

  constructor(options: GatherOptions) {
    this.#options = options
    const registers = [options.registry]
    this.#duration = new Histogram({
      name: 'infermesh_gather_duration_seconds',
      help: 'Time to gather the metrics of all workers for one scrape.',
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5],
      registers,
    })
    this.#rejected = new Counter({
      name: 'infermesh_gather_rejected_total',
      help: 'Metric families and series left out because they were malformed, too many or contradicted another.',
      labelNames: ['role', 'worker'],
      registers,
    })
  }

  /** The whole mesh's metrics as they are now. Scrapes that come while one is under way share it; nothing is kept. */
  gather(): Promise<string> {
    this.#gathering ??= this.#gather().finally(() => {
      this.#gathering = undefined
    })
    return this.#gathering
  }

  async #gather(): Promise<string> {
    const { net, self, registry } = this.#options
    const timer = this.#duration.startTimer()
    const links = [...net.members.values()].filter((link) => !link.suspect)
    const answers = await Promise.all(links.map((link) => this.#collect(link)))
    const others = answers.filter((source) => source !== undefined)
    timer()
    this.#countMembers()
    const own = this.#read(self.role, self.name, await registry.getMetricsAsJSON())
    const { families, conflicts } = merge([own, ...others])
    if (conflicts > 0) this.#rejected.inc({ role: self.role, worker: self.name }, conflicts)
    return render([this.#up([own, ...others]), ...families.filter(({ name }) => name !== UP)])
  }

  /** Each member has its series from the start, and a removed one has none. */
  #countMembers(): void {
    const { net, self } = this.#options
    const members = [...net.directory.members.values()].map(({ role, name }) => ({ role, worker: name }))
    const now = [{ role: self.role, worker: self.name }, ...members]
    for (const { role, worker } of this.#counted) {
      if (!now.some((one) => one.role === role && one.worker === worker)) this.#rejected.remove({ role, worker })
    }
    for (const labels of now) this.#rejected.inc(labels, 0)
    this.#counted = now
  }

  /** A member's metrics, or undefined where it does not answer in time. */
  async #collect(link: Link): Promise<Source | undefined> {
    const { role, label, publicKey } = link
    // The authority is known, and linked, before the directory is.
    const name = this.#options.net.directory.member(publicKey)?.name ?? link.hello?.name
    if (role === 'client' || name === undefined) return undefined
    try {
      const { metrics } = await link.call('metrics.collect', {}, { timeoutMs: COLLECT_MS })
      return this.#read(role, name, metrics)
    } catch (err) {
      this.#options.log.debug({ err, peer: label }, 'a worker gave no metrics')
      return undefined
    }
  }

  #read(role: string, worker: string, metrics: readonly unknown[]): Source {
    const { families, rejected } = readFamilies(metrics)
    if (rejected > 0) this.#rejected.inc({ role, worker }, rejected)
    return { role, worker, families }
  }

  /** Every member of the directory, whether it answered or not. The authority answers before the directory is read. */
  #up(answered: readonly Source[]): Family {
    const { net } = this.#options
    // A worker that joined again with a new key can be there twice under one name.
    const expected = new Map(answered.map(({ role, worker }) => [`${role}/${worker}`, { role, worker }]))
    for (const { role, name } of net.directory.members.values()) expected.set(`${role}/${name}`, { role, worker: name })
    const alive = new Set(answered.map(({ role, worker }) => `${role}/${worker}`))
    return {
      name: UP,
      help: 'Whether a member of the mesh answered this scrape.',
      type: 'gauge',
      samples: [...expected].map(([key, labels]) => ({ name: UP, labels, value: alive.has(key) ? 1 : 0 })),
    }
  }
}
