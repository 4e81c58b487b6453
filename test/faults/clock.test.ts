import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import test from 'brittle'
import { PACKAGE_ROOT } from '../../lib/worker-base/index.js'
import { infermesh, testHome, until } from '../helpers/mesh.js'
import { Scrape } from '../helpers/scrape.js'

/**
 * A machine whose clock is put back and forward by an hour under a running mesh. The bound: no link ends, and a limit for
 * each minute neither ends a minute sooner nor asks anybody to wait longer than one.
 */

const HOUR_MS = 3_600_000
const REQUESTS_PER_MINUTE = 4
/** A link that has heard nothing for so long is closed, and a little more. */
const SILENCE_MS = 3500

interface Up {
  key: string
  endpoints: { http: string; metrics: string }
}

test('a clock that is put back or forward by an hour cuts no link and moves no limit', {
  timeout: 90_000,
}, async (t) => {
  const home = await testHome(t)
  const clock = join(home, 'clock')
  const env = {
    INFERMESH_TEST_CLOCK: clock,
    NODE_OPTIONS: `--import=${pathToFileURL(join(PACKAGE_ROOT, 'dist', 'test', 'helpers', 'step-clock.js')).href}`,
  }
  const started = await infermesh(
    ['up', '--detach', '--no-check', '--json', '--http-port', '0', '--metrics-port', '0'],
    { home, env },
  )
  t.is(started.code, 0, started.stderr)
  t.teardown(() => infermesh(['down', '--force'], { home }))
  const { key: admin, endpoints } = JSON.parse(started.stdout) as Up
  const ask = async (key: string, path: string, body: object) => {
    const response = await fetch(`${endpoints.http}${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    return {
      status: response.status,
      headers: response.headers,
      body: (await response.json()) as { key?: string; created?: number },
    }
  }
  const chat = (key: string) =>
    ask(key, '/v1/chat/completions', { messages: [{ role: 'user', content: 'hi' }], max_tokens: 1 })
  const scrape = new Scrape(endpoints.metrics)
  await until(async () => (await fetch(`${endpoints.http}/readyz`)).ok, 'the gateway is ready', 30_000)
  const limited = (
    await ask(admin, '/api/v1/keys', { user: 'admin', limits: { requestsPerMinute: REQUESTS_PER_MINUTE } })
  ).body.key
  if (limited === undefined) return t.fail('a key was made')
  await until(async () => (await chat(limited)).status === 200, 'the key is known')
  for (let i = 1; i < REQUESTS_PER_MINUTE; i++) t.is((await chat(limited)).status, 200)
  const full = async (when: string) => {
    const { status, headers } = await chat(limited)
    const waitS = Number(headers.get('retry-after'))
    t.is(status, 429, `${when}: the minute is used up`)
    t.ok(waitS > 0 && waitS <= 60, `${when}: it asks to wait ${waitS} s`)
  }
  await scrape.whole(4)
  const before = await scrape.linksClosed()
  await full('before')

  // One that is put forward makes all silence long at once; one that is put back, none ever end or all begin anew.
  for (const [offsetMs, when, waitMs] of [
    [-HOUR_MS, 'an hour back', SILENCE_MS],
    [HOUR_MS, 'two hours forward', 500],
  ] as const) {
    writeFileSync(clock, String(offsetMs))
    const steppedAt = performance.now()
    await until(
      async () => Math.abs(((await chat(admin)).body.created ?? 0) * 1000 - Date.now() - offsetMs) < HOUR_MS / 2,
      'the gateway has the new time',
    )
    await full(when)
    t.is((await chat(admin)).status, 200, `${when}: others are served`)
    await until(() => performance.now() - steppedAt > waitMs, 'a silent link would be closed')
    t.alike(await scrape.linksClosed(), before, `${when}: no link was closed`)
    t.is((await chat(admin)).status, 200, `${when}: still`)
  }
})
