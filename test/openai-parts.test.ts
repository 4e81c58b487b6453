import test from 'brittle'
import { ERROR_CODES } from '../lib/errors/errors.js'
import { MeshError } from '../lib/protocol/index.js'
import { errorAnswer } from '../workers/gateway/http/errors.js'
import { durationText } from '../workers/gateway/openai/headers.js'
import { Limiter } from '../workers/gateway/requests/limiter.js'
import { schemaFault } from './helpers/openai-schemas.js'

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
  const limiter = new Limiter({ spent: () => 0, resetMs: () => undefined }, () => now)
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
