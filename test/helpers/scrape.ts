import { until } from './wait.js'

/** A mesh as its metrics endpoint tells of it. */
export class Scrape {
  readonly #url: string

  constructor(url: string) {
    this.#url = url
  }

  /** The lines of one metric, in order. */
  async lines(name: string): Promise<string[]> {
    const page = await (await fetch(this.#url)).text()
    return page
      .split('\n')
      .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `))
      .sort()
  }

  /** Waits until so many workers have joined and answer: until then links are made anew. */
  async whole(workers: number): Promise<void> {
    await until(
      async () => (await this.lines('infermesh_up')).filter((line) => line.endsWith(' 1')).length === workers,
      `${workers} workers answer`,
      30_000,
    )
  }

  /** How many links ended, and why, as each worker counts them. */
  linksClosed(): Promise<string[]> {
    return this.lines('infermesh_link_closed_total')
  }
}
