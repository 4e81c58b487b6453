import test from 'brittle'
import { ERROR_CODES } from '../lib/errors/errors.js'
import { MeshError } from '../lib/protocol/index.js'
import { errorAnswer } from '../workers/gateway/http/errors.js'
import { durationText } from '../workers/gateway/openai/headers.js'
import { ResponseStore } from '../workers/gateway/openai/response-store.js'
import { Limiter } from '../workers/gateway/requests/limiter.js'
import { schemaFault } from './helpers/openai-schemas.js'

const stored = (id: string, text = '') => ({
  response: { id },
  input: [],
  messages: [{ role: 'user' as const, content: text }],
})

const MEGABYTE = 'x'.repeat(1_000_000)

test('stored responses are bounded for each key, and no key reads another’s', (t) => {
  const store = new ResponseStore()
  const put = (keyId: string, ...what: Parameters<typeof stored>) => store.put({ keyId, user: keyId }, stored(...what))
  for (let i = 0; i < 250; i++) put('k1', `r${i}`)
  t.is(store.get('k1', 'r0'), undefined)
  t.ok(store.get('k1', 'r249'))
  t.ok(store.get('k1', 'r50'))
  t.is(store.get('k2', 'r249'), undefined)
  put('k2', 'r249', 'mine now')
  t.is(store.get('k1', 'r249')?.messages[0]?.content, '', 'an id of another key is not overwritten')
  for (let i = 0; i < 20; i++) put('k3', `big${i}`, MEGABYTE)
  t.is(store.get('k3', 'big0'), undefined)
  t.ok(store.get('k3', 'big19'))
  put('k3', 'huge', 'x'.repeat(9_000_000))
  t.ok(store.get('k3', 'big19'), 'what is too much by itself drives out nothing')
  t.ok(store.get('k1', 'r249'), 'what one key stores drives out nothing of another')
  t.ok(store.delete('k3', 'big19'))
  t.absent(store.delete('k3', 'big19'))
})

test('a user with many keys drives out nobody’s stored responses', (t) => {
  const store = new ResponseStore()
  store.put({ keyId: 'honest', user: 'ann' }, stored('first'))
  for (let key = 0; key < 20; key++) {
    for (let i = 0; i < 8; i++) store.put({ keyId: `m${key}`, user: 'mallory' }, stored(`${key}-${i}`, MEGABYTE))
  }
  t.ok(store.get('honest', 'first'))
  t.ok(store.get('m19', '19-7'))
  t.ok(store.sizeBytes <= 33 * 1024 * 1024, `${store.sizeBytes} bytes for one user`)
  for (let user = 0; user < 8; user++) {
    for (let i = 0; i < 16; i++) {
      store.put({ keyId: `k${user}-${i % 4}`, user: `u${user}` }, stored(`u${user}-${i}`, MEGABYTE))
    }
  }
  t.ok(store.sizeBytes <= 128 * 1024 * 1024, `${store.sizeBytes} bytes in all`)
  t.ok(store.get('honest', 'first'), 'those who have the most give way')
  t.ok(store.get('k7-3', 'u7-15'))
})

test('durations', (t) => {
  t.alike([0, 20, 999.2, 1000, 12_345, 59_990, 60_000, 83_000].map(durationText), [
    '0ms',
    '20ms',
    '1000ms',
    '1s',
    '12.4s',
    '1m0s',
    '1m0s',
    '1m23s',
  ])
})

test('each error code has an OpenAI form with all four keys', (t) => {
  for (const code of ERROR_CODES) {
    const { status, headers, error } = errorAnswer(
      MeshError[code]('what happened', { retryAfterMs: 1500, param: 'model' }),
    )
    t.is(schemaFault('error', { error }), undefined)
    t.is(status, MeshError[code]('').httpStatus)
    t.is(error.param, 'model')
    if (headers['x-should-retry'] === 'true')
      t.alike([headers['retry-after'], headers['retry-after-ms']], ['2', '1500'])
  }
  t.is(errorAnswer(MeshError.NO_PROCESSOR('')).headers['retry-after'], '1', 'a 503 always says when')
  t.alike(errorAnswer(new TypeError('secret detail')).error.message, 'Something unexpected went wrong')
})

test('the tighter of the limits of a key and its user is told', (t) => {
  let now = 1_000_000
  const limiter = new Limiter({ spent: () => 0 }, () => now)
  const limits = { key: { requestsPerMinute: 10 }, user: { requestsPerMinute: 5, tokensPerMinute: 1000 } }
  const principal = { keyId: 'k', user: 'u', role: 'user' as const, scopes: [], limits: { parents: [], ...limits } }
  t.alike(limiter.rates(principal), {
    requests: { limit: 5, remaining: 5, resetMs: 0 },
    tokens: { limit: 1000, remaining: 1000, resetMs: 0 },
  })
  const lease = limiter.admit(principal, 'm', { promptTokens: 100, maxTokens: 100 })
  t.is(limiter.rates(principal).requests?.remaining, 4)
  t.is(limiter.rates(principal).tokens?.remaining, 800)
  lease.settle(120)
  t.is(limiter.rates(principal).tokens?.remaining, 880)
  t.is(limiter.rates(principal).requests?.resetMs, 60_000)
  now += 61_000
  t.is(limiter.rates(principal).requests?.remaining, 5)
})
