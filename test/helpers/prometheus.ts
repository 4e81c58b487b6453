import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import type { Test } from 'brittle'
import { sleep } from './wait.js'

/** A row of what a query gives. */
export interface QueryResult {
  metric: Record<string, string>
  value: [number, string]
}

/** A real Prometheus that scrapes one endpoint five times a second. */
export interface Prometheus {
  /** What a query gives now; empty where it gives nothing, or Prometheus does not answer yet. */
  query(text: string): Promise<QueryResult[]>
  /** The first row of what a query gives, once it gives something that the test wants. */
  answer(text: string, wanted?: (result: QueryResult) => boolean): Promise<QueryResult>
}

export async function startPrometheus(t: Test, endpoint: string, token?: string): Promise<Prometheus> {
  const dir = await t.tmp()
  const config = {
    scrape_configs: [
      {
        job_name: 'infermesh',
        scrape_interval: '200ms',
        scrape_timeout: '200ms',
        honor_labels: true,
        ...(token !== undefined && { authorization: { credentials: token } }),
        static_configs: [{ targets: [new URL(endpoint).host] }],
      },
    ],
  }
  // JSON is YAML.
  writeFileSync(join(dir, 'prometheus.yml'), JSON.stringify(config))
  const listen = `127.0.0.1:${await freePort()}`
  const prometheus = spawn(
    'prometheus',
    [
      `--config.file=${join(dir, 'prometheus.yml')}`,
      `--storage.tsdb.path=${join(dir, 'data')}`,
      `--web.listen-address=${listen}`,
    ],
    { stdio: 'ignore' },
  )
  const exited = new Promise((resolve) => prometheus.once('exit', resolve))
  t.teardown(async () => {
    prometheus.kill()
    await exited
  })
  const query = async (text: string): Promise<QueryResult[]> => {
    const response = await fetch(`http://${listen}/api/v1/query?query=${encodeURIComponent(text)}`).catch(
      () => undefined,
    )
    if (response === undefined) return []
    const { data } = (await response.json()) as { data?: { result: QueryResult[] } }
    return data?.result ?? []
  }
  const answer: Prometheus['answer'] = async (text, wanted = () => true) => {
    let last: QueryResult[] = []
    for (let i = 0; i < 100; i++) {
      last = await query(text)
      const [first] = last
      if (first !== undefined && wanted(first)) return first
      await sleep(200)
    }
    throw new Error(`no such answer to ${text}: ${JSON.stringify(last)}`)
  }
  return { query, answer }
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })
}
