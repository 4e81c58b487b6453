import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Test } from 'brittle'
import { PACKAGE_ROOT } from '../lib/worker-base/index.js'
import { GatewayWorker } from '../workers/gateway/index.js'
import { MetricsWorker } from '../workers/metrics/index.js'
import { ProcessorWorker } from '../workers/processor/index.js'
import {
  adminKey,
  codeOf,
  linked,
  start,
  startAuth,
  startStranger,
  testHome,
  testOptions,
  until,
} from './helpers/mesh.js'
import { missingProgram, testUnless } from './helpers/needs.js'
import { startPrometheus } from './helpers/prometheus.js'

/** What the metrics say of requests, from before the first one on. */

const PAGE = readFileSync(join(PACKAGE_ROOT, 'docs', 'metrics.md'), 'utf8')

async function startMesh(t: Test) {
  const home = await testHome(t)
  const auth = await startAuth(t, home)
  const gateway = await start(t, new GatewayWorker(testOptions(home, 'g1')))
  const processor = await start(t, new ProcessorWorker(testOptions(home, 'p1', { engine: { gpu: 'off', slots: 2 } })))
  const metrics = await start(t, new MetricsWorker(testOptions(home, 'm1', { metrics: { port: 0 } })))
  for (const worker of [auth, gateway, processor]) await linked(metrics, worker)
  const url = metrics.status().addresses.metrics as string
  const client = await startStranger(t, home, gateway.publicKey)
  const key = adminKey(home)
  await until(
    async () => (await client.call('models', {}, { key })).models.some(({ processors }) => processors.length > 0),
    'the model can be used',
    20_000,
  )
  const ask = (more: { model?: string; prompt?: string } = {}) =>
    client.call('complete', { kind: 'completion', prompt: 'One', maxTokens: 2, ...more }, { key })
  const scrape = async () => (await fetch(url)).text()
  return { auth, gateway, processor, url, ask, scrape }
}

/** The value of the series that has all of these labels; undefined where there is none. */
function sampleOf(text: string, name: string, labels: Record<string, string>): number | undefined {
  const line = text
    .split('\n')
    .find(
      (one) =>
        one.startsWith(`${name}{`) &&
        Object.entries(labels).every(([label, value]) => one.includes(`${label}="${value}"`)),
    )
  return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ') + 1))
}

test('every family has its series before anything has happened, and what engines take is told', {
  timeout: 60_000,
}, async (t) => {
  const { ask, scrape } = await startMesh(t)
  const before = await scrape()
  const names = [...PAGE.matchAll(/^\| `(infermesh_\w+)` /gm)].map(([, name = '']) => name)
  t.ok(names.length > 40)
  t.alike(
    names.filter((name) => !new RegExp(`^${name}(_count)?\\{`, 'm').test(before)),
    [],
    'families without a series',
  )
  const model = 'infermesh-tiny'
  const count = (text: string, outcome: string, code: string, route = 'completion') =>
    sampleOf(text, 'infermesh_requests_total', { model, route, outcome, code })
  for (const route of ['chat', 'completion', 'embedding']) t.is(count(before, 'ok', 'stop', route), 0)
  t.is(count(before, 'error', 'NO_PROCESSOR'), 0)
  t.is(count(before, 'limited', 'QUOTA_EXCEEDED'), 0)
  for (const name of ['queue_wait', 'time_to_first_token']) {
    t.is(
      sampleOf(before, `infermesh_${name}_seconds_bucket`, { model, le: '600' }),
      0,
      `${name} reaches to ten minutes`,
    )
  }
  t.is(sampleOf(before, 'infermesh_request_duration_seconds_bucket', { model, le: '1800' }), 0)
  t.is(sampleOf(before, 'infermesh_gather_rejected_total', { exported_worker: 'p1' }), 0)

  const resident = sampleOf(before, 'infermesh_engine_memory_bytes', { model, kind: 'resident' }) ?? 0
  t.ok(resident > 20e6 && resident < 2e9, `an engine takes ${Math.round(resident / 1e6)} MB`)
  t.is(sampleOf(before, 'infermesh_engine_memory_bytes', { model, kind: 'gpu' }), 0, 'nothing of a GPU')
  t.ok((sampleOf(before, 'infermesh_machine_memory_bytes', { kind: 'free' }) ?? 0) > 10e6)
  for (const kind of ['used', 'free', 'total']) t.is(sampleOf(before, 'infermesh_gpu_memory_bytes', { kind }), 0, kind)

  await ask()
  t.is(await codeOf(ask({ model: 'none' })), 'MODEL_NOT_FOUND')
  const after = await scrape()
  t.is((count(after, 'ok', 'length') ?? 0) + (count(after, 'ok', 'stop') ?? 0), 1)
  t.is(sampleOf(after, 'infermesh_request_duration_seconds_count', { model, route: 'completion' }), 1)
  t.is(sampleOf(after, 'infermesh_time_to_first_token_seconds_count', { model }), 1)
  t.is(sampleOf(after, 'infermesh_prefill_seconds_count', { model }), 1)
  const unknown = { model: 'unknown', route: 'completion', outcome: 'refused', code: 'MODEL_NOT_FOUND' }
  t.is(sampleOf(after, 'infermesh_requests_total', unknown), 1)
})

testUnless(
  missingProgram('prometheus --version'),
  'the queries of docs/metrics.md say of a real Prometheus what has happened, from the first request on',
  { timeout: 90_000 },
  async (t) => {
    const { ask, processor, url } = await startMesh(t)
    const prometheus = await startPrometheus(t, url)
    const queries = [...PAGE.matchAll(/```promql\n([\s\S]*?)```/g)].flatMap(([, block = '']) =>
      block.split('\n').filter((line) => line !== '' && !line.startsWith('#')),
    )
    const [errorRate = '', firstToken = '', ...others] = queries
    t.ok(others.length > 0)
    await prometheus.answer('count(infermesh_requests_total)')
    const samples = 'min(count_over_time(infermesh_requests_total{model="infermesh-tiny"}[1m]))'
    await prometheus.answer(samples, ({ value }) => Number(value[1]) >= 2)

    for (let i = 0; i < 3; i++) await ask()
    const served = 'sum(increase(infermesh_requests_total{outcome="ok"}[5m]))'
    await prometheus.answer(served, ({ value }) => Number(value[1]) > 0)
    t.is((await prometheus.answer(errorRate)).value[1], '0', 'no errors is 0, and not nothing')
    const seconds = await prometheus.answer(firstToken, ({ value }) => Number(value[1]) > 0)
    t.ok(Number(seconds.value[1]) < 10, `the slowest twentieth waited ${seconds.value[1]} s`)

    const whileUp = others.filter((query) => !query.includes('infermesh_up'))
    for (const query of whileUp) t.ok((await prometheus.answer(query)).value[1], query)

    await processor.stop()
    t.is(await codeOf(ask()), 'NO_PROCESSOR')
    const rate = await prometheus.answer(errorRate, ({ value }) => Number(value[1]) > 0)
    t.ok(Math.abs(Number(rate.value[1]) - 0.25) < 0.02, `one of four: ${rate.value[1]}`)
    for (const query of others.filter((one) => !whileUp.includes(one)))
      t.ok((await prometheus.answer(query)).value[1], query)
  },
)
