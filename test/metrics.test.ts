import { execFileSync } from 'node:child_process'
import { readFileSync, statSync } from 'node:fs'
import { get } from 'node:http'
import test, { type Test } from 'brittle'
import { Counter } from 'prom-client'
import { homeFiles } from '../lib/home/index.js'
import { merge, render } from '../workers/metrics/exposition.js'
import { readFamilies } from '../workers/metrics/family.js'
import { MetricsWorker } from '../workers/metrics/index.js'
import {
  linked,
  sleep,
  spawnMember,
  start,
  startAuthority,
  startMember,
  type TestAuthority,
  testOptions,
  until,
} from './helpers/mesh.js'
import { missingProgram, testUnless } from './helpers/needs.js'
import { startPrometheus } from './helpers/prometheus.js'

async function startMetrics(t: Test, authority: TestAuthority, token = ''): Promise<MetricsWorker> {
  const flags = { metrics: { port: 0, token } }
  const worker = new MetricsWorker(testOptions(authority.home, 'm1', flags))
  await authority.admit(worker)
  await start(t, worker)
  await linked(worker, authority)
  return worker
}

function url(worker: MetricsWorker): string {
  return worker.status().addresses.metrics as string
}

async function scrape(worker: MetricsWorker): Promise<string> {
  return (await fetch(url(worker))).text()
}

test('one scrape shows every worker of the mesh, told apart by role and worker', async (t) => {
  const authority = await startAuthority(t)
  const processor = await startMember(t, authority, 'processor', 'p1')
  const metrics = await startMetrics(t, authority)
  await linked(metrics, processor)

  const response = await fetch(url(metrics))
  t.is(response.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8')
  const text = await response.text()
  for (const labels of ['role="auth",worker="auth"', 'role="processor",worker="p1"', 'role="metrics",worker="m1"']) {
    t.ok(text.includes(`infermesh_up{${labels}} 1\n`), `infermesh_up of ${labels}`)
    t.ok(text.includes(`process_resident_memory_bytes{${labels}} `), `default metrics of ${labels}`)
    t.ok(text.includes(`infermesh_build_info{${labels},version=`), `build info of ${labels}`)
  }
  t.is(text.split('# TYPE process_resident_memory_bytes ').length, 2, 'a type is told once')
  t.ok(text.includes('infermesh_links{role="metrics",worker="m1",exported_role="auth",state="open"} 1'))
  t.is((await fetch(url(metrics).replace('/metrics', '/healthz'))).status, 200)
  t.is((await fetch(url(metrics).replace('/metrics', '/other'))).status, 404)
})

test('a worker that has stopped is down, and its other series are gone', async (t) => {
  const authority = await startAuthority(t)
  const processor = await startMember(t, authority, 'processor', 'p1')
  const metrics = await startMetrics(t, authority)
  const link = await linked(metrics, processor)
  await processor.stop()
  await until(() => link.closed, 'the link is closed')

  const text = await scrape(metrics)
  t.ok(text.includes('infermesh_up{role="processor",worker="p1"} 0\n'))
  t.is(text.split('{role="processor",worker="p1"').length, 2, 'nothing else of it')
})

test('a worker that hangs delays a scrape by a second at most, and counts as down', async (t) => {
  const authority = await startAuthority(t)
  const processor = await spawnMember(t, authority, 'processor', 'p1')
  const metrics = await startMetrics(t, authority)
  await linked(metrics, processor)
  t.ok((await scrape(metrics)).includes('infermesh_up{role="processor",worker="p1"} 1\n'))

  processor.process.kill('SIGSTOP')
  const began = performance.now()
  const text = await scrape(metrics)
  const tookMs = performance.now() - began
  t.ok(tookMs < 1900, `answered within ${Math.round(tookMs)} ms`)
  t.ok(text.includes('infermesh_up{role="processor",worker="p1"} 0\n'))
  t.ok(text.includes('infermesh_up{role="auth",worker="auth"} 1\n'))
})

test('scrapes at the same time share one gathering, and the next one gathers anew', async (t) => {
  const authority = await startAuthority(t)
  const metrics = await startMetrics(t, authority)
  let gathered = 0
  const collect = authority.registry.getMetricsAsJSON.bind(authority.registry)
  authority.registry.getMetricsAsJSON = async () => {
    gathered++
    await sleep(50)
    return collect()
  }
  const counter = new Counter({ name: 'test_total', help: 'Counts.', registers: [authority.registry] })

  counter.inc()
  const texts = await Promise.all([scrape(metrics), scrape(metrics), scrape(metrics)])
  t.is(gathered, 1)
  t.ok(texts.every((text) => text.includes('test_total{role="auth",worker="auth"} 1\n')))
  counter.inc()
  t.ok((await scrape(metrics)).includes('test_total{role="auth",worker="auth"} 2\n'))
  t.is(gathered, 2)
})

test('where a token is set, only its bearer can scrape', async (t) => {
  const authority = await startAuthority(t)
  const metrics = await startMetrics(t, authority, 'correct horse')
  const status = async (authorization?: string) =>
    (await fetch(url(metrics), { headers: authorization === undefined ? {} : { authorization } })).status
  t.is(await status(), 401)
  t.is(await status('Bearer wrong'), 401)
  t.is(await status('Basic correct horse'), 401)
  t.is(await status('Bearer '), 401)
  t.is(await status('Bearer correct horse'), 200)
  t.is((await fetch(url(metrics).replace('/metrics', '/healthz'))).status, 200, 'health needs no token')
})

test('beyond this machine the metrics want the home’s token, unless a setting opens them', async (t) => {
  const authority = await startAuthority(t)
  const serve = async (name: string, settings: object) => {
    const flags = { metrics: { host: '0.0.0.0', port: 0, ...settings } }
    const metrics = new MetricsWorker(testOptions(authority.home, name, flags))
    await authority.admit(metrics)
    await start(t, metrics)
    return url(metrics).replace('0.0.0.0', '127.0.0.1')
  }
  const closed = await serve('m1', {})
  const refused = await fetch(closed)
  t.is(refused.status, 401)
  t.is(((await refused.json()) as { error: { code: string } }).error.code, 'invalid_api_key')
  const { metricsToken } = homeFiles(authority.home)
  t.is(statSync(metricsToken).mode & 0o777, 0o600)
  const authorization = `Bearer ${readFileSync(metricsToken, 'utf8').trim()}`
  t.is((await fetch(closed, { headers: { authorization } })).status, 200)
  t.is((await fetch(await serve('m2', {}), { headers: { authorization } })).status, 200, 'one token for the home')
  t.is((await fetch(await serve('m3', { open: true }))).status, 200)
})

test('metrics for this machine are not read under another site’s name, and errors have the mesh’s form', async (t) => {
  const authority = await startAuthority(t)
  const metrics = await startMetrics(t, authority)
  const { port } = new URL(url(metrics))
  const ask = (host: string, path = '/metrics') =>
    new Promise<{ status: number | undefined; body: string }>((resolve, reject) => {
      get({ host: '127.0.0.1', port, path, headers: { host } }, (response) => {
        let body = ''
        response.setEncoding('utf8').on('data', (text: string) => (body += text))
        response.once('end', () => resolve({ status: response.statusCode, body }))
      }).once('error', reject)
    })
  const rebound = await ask(`evil.example:${port}`)
  t.is(rebound.status, 421)
  t.is(JSON.parse(rebound.body).error.code, 'misdirected_request')
  for (const host of ['localhost', `localhost:${port}`, `127.0.0.1:${port}`, '[::1]', '10.0.0.7']) {
    t.is((await ask(host)).status, 200, host)
  }
  const missing = await ask('localhost', '/nothing')
  t.is(missing.status, 404)
  t.is(JSON.parse(missing.body).error.code, 'not_found')
})

test('no body is read: what is asked in another way is refused by its head, and fills no log', async (t) => {
  const authority = await startAuthority(t)
  const options = testOptions(authority.home, 'm1', { metrics: { port: 0 }, log: { level: 'info' } })
  const metrics = new MetricsWorker(options)
  await authority.admit(metrics)
  await start(t, metrics)
  const headers = { 'content-type': 'application/json' }
  const refused = async (path: string, init: RequestInit) => {
    const response = await fetch(url(metrics).replace('/metrics', path), init)
    const { error } = (await response.json()) as { error: { code: string } }
    return [response.status, error.code]
  }
  for (const body of ['{"a', '{}', 'x'.repeat(100_000)]) {
    t.alike(await refused('/metrics', { method: 'POST', headers, body }), [405, 'method_not_allowed'])
    t.alike(await refused('/metrics', { method: 'POST', body }), [405, 'method_not_allowed'])
    t.alike(await refused('/other', { method: 'POST', headers, body }), [404, 'not_found'])
  }
  for (let i = 0; i < 50; i++) await refused('/metrics', { method: 'POST', headers, body: '{"a' })
  t.is((await fetch(url(metrics))).status, 200)
  const lines = readFileSync(homeFiles(authority.home).log('metrics', 'm1'), 'utf8').trim().split('\n')
  const told = lines.map((line) => JSON.parse(line) as { level: number; msg: string })
  t.absent(told.some(({ level }) => level > 30))
  t.is(told.filter(({ msg }) => msg === 'an HTTP request was refused').length, 13, 'ten of one kind, three of another')
})

test('what a faulty worker sends is left out and counted, and the rest is served', async (t) => {
  const authority = await startAuthority(t)
  const metrics = await startMetrics(t, authority)
  authority.registry.getMetricsAsJSON = async () =>
    [
      null,
      'text',
      { name: 'no values', help: '', type: 'gauge' },
      gauge('1bad'),
      gauge('bad-name'),
      gauge('evil\nname 1'),
      { ...gauge('bad_type'), type: 'other' },
      { ...gauge('bad_label'), values: [{ labels: { 'a"b': 'x' }, value: 1 }] },
      { ...gauge('bad_value'), values: [{ labels: {}, value: 'x' }] },
      { ...gauge('other_sample'), values: [{ metricName: 'infermesh_up', labels: {}, value: 0 }] },
      { ...gauge('long_label'), values: [{ labels: { a: 'x'.repeat(5000) }, value: 1 }] },
      { ...gauge('process_resident_memory_bytes'), type: 'counter' },
      gauge('infermesh_up'),
      { ...gauge('good_not_a_number'), values: [{ labels: {}, value: Number.NaN }] },
      gauge('good'),
    ] as never

  const text = await scrape(metrics)
  t.ok(text.includes('good{role="auth",worker="auth"} 1\n'))
  t.ok(text.includes('good_not_a_number{role="auth",worker="auth"} NaN\n'))
  t.absent(/\n(1?bad|evil|other_sample|long_label)/.test(text))
  t.is(text.split('infermesh_up{role="auth"').length, 2, 'a worker cannot say who is up')
  const next = await scrape(metrics)
  t.ok(
    next.includes(
      'infermesh_gather_rejected_total{role="metrics",worker="m1",exported_role="auth",exported_worker="auth"} ',
    ),
  )
})

function gauge(name: string) {
  return { name, help: 'Help.', type: 'gauge', values: [{ labels: {}, value: 1 }] }
}

test('labels and help are escaped as the text format wants', (t) => {
  const families = [
    {
      name: 'g',
      help: 'a\\b\n"c"',
      type: 'gauge' as const,
      samples: [{ name: 'g', labels: { l: 'a\\b\n"c"' }, value: 1 }],
    },
  ]
  const text = render(merge([{ role: 'auth', worker: 'a', families }]).families)
  t.is(text, '# HELP g a\\\\b\\n"c"\n# TYPE g gauge\ng{role="auth",worker="a",l="a\\\\b\\n\\"c\\""} 1\n')
})

test('a histogram of two workers stays one family with its infinities', (t) => {
  const { families } = readFamilies([
    {
      name: 'h',
      help: 'H.',
      type: 'histogram',
      values: [
        { metricName: 'h_bucket', labels: { le: 1 }, value: 2 },
        { metricName: 'h_bucket', labels: { le: '+Inf' }, value: 3 },
        { metricName: 'h_sum', labels: {}, value: 4.5 },
        { metricName: 'h_count', labels: {}, value: 3 },
      ],
    },
  ])
  const merged = merge([
    { role: 'gateway', worker: 'g1', families },
    { role: 'gateway', worker: 'g2', families },
    { role: 'gateway', worker: 'g2', families },
  ])
  t.is(merged.conflicts, 4, 'a series sent twice is kept once')
  t.is(
    render(merged.families),
    [
      '# HELP h H.',
      '# TYPE h histogram',
      ...['g1', 'g2'].flatMap((worker) => [
        `h_bucket{role="gateway",worker="${worker}",le="1"} 2`,
        `h_bucket{role="gateway",worker="${worker}",le="+Inf"} 3`,
        `h_sum{role="gateway",worker="${worker}"} 4.5`,
        `h_count{role="gateway",worker="${worker}"} 3`,
      ]),
      '',
    ].join('\n'),
  )
})

test('a worker cannot send more series than the bound', (t) => {
  const values = Array.from({ length: 15_000 }, (_, i) => ({ labels: { i }, value: i }))
  const many = (name: string) => ({ name, help: '', type: 'gauge', values })
  const { families, rejected } = readFamilies([many('first'), many('second'), gauge('third')])
  t.alike(
    families.map(({ name }) => name),
    ['first', 'third'],
  )
  t.is(rejected, 1)
})

const missing = missingProgram('promtool --version', 'prometheus --version')

testUnless(missing, 'promtool finds no fault in a real scrape', {}, async (t) => {
  const authority = await startAuthority(t)
  const processor = await startMember(t, authority, 'processor', 'p1')
  const metrics = await startMetrics(t, authority)
  await linked(metrics, processor)
  const text = await scrape(metrics)
  t.is(check(text), '')
})

function check(text: string): string {
  try {
    execFileSync('promtool', ['check', 'metrics'], { input: text, stdio: ['pipe', 'pipe', 'pipe'] })
    return ''
  } catch (err) {
    const { stdout, stderr } = err as { stdout: Buffer; stderr: Buffer }
    return `${stdout}${stderr}`
  }
}

testUnless(
  missing,
  'a real Prometheus scrapes the endpoint with its token and answers queries',
  {
    timeout: 60_000,
  },
  async (t) => {
    const authority = await startAuthority(t)
    const metrics = await startMetrics(t, authority, 'token')
    const { answer } = await startPrometheus(t, url(metrics), 'token')
    const up = await answer('infermesh_up{role="auth"}')
    t.is(up.metric.worker, 'auth')
    t.is(up.value[1], '1')
    t.is((await answer('count(infermesh_up == 1)')).value[1], '2')
    t.ok(await answer('histogram_quantile(0.5, infermesh_rpc_duration_seconds_bucket{role="auth"})'))
  },
)
