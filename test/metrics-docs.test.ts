import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { type BaseWorker, PACKAGE_ROOT } from '../lib/worker-base/index.js'
import { GatewayWorker } from '../workers/gateway/index.js'
import { OUTCOMES } from '../workers/gateway/outcomes.js'
import { MetricsWorker } from '../workers/metrics/index.js'
import { ProcessorWorker } from '../workers/processor/index.js'
import { start, startAuth, testHome, testOptions } from './helpers/mesh.js'

/** What each worker counts, as the rows of the table in docs/metrics.md. */
function rowsOf(workers: BaseWorker[]): string[] {
  const families = new Map<string, { help: string; labels: string[]; roles: string[] }>()
  for (const { role, registry } of workers) {
    for (const metric of registry.getMetricsAsArray()) {
      if (!metric.name.startsWith('infermesh_')) continue
      const { labelNames = [] } = metric as unknown as { labelNames?: string[] }
      const known = families.get(metric.name) ?? { help: metric.help, labels: labelNames, roles: [] }
      families.set(metric.name, { ...known, roles: [...known.roles, role] })
    }
  }
  return [...families].map(([name, { help, labels, roles }]) => {
    const from = roles.length === workers.length ? 'all' : roles.sort().join(', ')
    return `| \`${name}\` | ${labels.join(', ')} | ${from} | ${help} |`
  })
}

test('docs/metrics.md lists every outcome of requests with its codes', (t) => {
  const page = readFileSync(join(PACKAGE_ROOT, 'docs', 'metrics.md'), 'utf8')
  const told = [...page.matchAll(/^\| `([a-z]+)` \| ((?:`\w+`(?:, )?)+) \|/gm)].map(([, outcome, codes = '']) => [
    outcome,
    codes.replaceAll('`', '').split(', '),
  ])
  t.alike(Object.fromEntries(told), OUTCOMES)
})

test('docs/metrics.md lists every metric as it is', async (t) => {
  const home = await testHome(t)
  const http = { http: { port: 0 } }
  const metrics = new MetricsWorker(testOptions(home, 'm1', { metrics: { port: 0 } }))
  const workers: BaseWorker[] = [await startAuth(t, home)]
  for (const worker of [
    new GatewayWorker(testOptions(home, 'g1', http)),
    new ProcessorWorker(testOptions(home, 'p1', { engine: { embedded: false, gpu: 'off' } })),
    metrics,
  ]) {
    workers.push(await start<BaseWorker>(t, worker))
  }
  // The metrics worker makes this one while it gathers.
  const scrape = await (await fetch(metrics.status().addresses.metrics as string)).text()
  const up = `| \`infermesh_up\` |  | metrics | ${/^# HELP infermesh_up (.*)$/m.exec(scrape)?.[1]} |`
  const told = readFileSync(join(PACKAGE_ROOT, 'docs', 'metrics.md'), 'utf8').match(/^\| `infermesh_.*$/gm)
  t.alike(told, [...rowsOf(workers), up].sort())
})
