import test from 'brittle'
import type { BudgetPeriod, Limits, MeshError } from '../lib/protocol/index.js'
import type { Principal } from '../lib/store/index.js'
import { Limiter } from '../workers/gateway/requests/limiter.js'

const START = Date.UTC(2026, 0, 31, 12)

function principal(key: Limits, user: Limits = {}, keyId = 'k1'): Principal {
  return { keyId, user: 'ann', role: 'user', scopes: ['inference'], limits: { key, parents: [], user } }
}

/** A limiter with a clock that the test moves and a ledger that it fills. */
function setup() {
  const state = { now: START, spent: 0 }
  const ledger = { spent: (_subject: string, _period: BudgetPeriod) => state.spent }
  return { state, limiter: new Limiter(ledger, () => state.now) }
}

function refusal(fn: () => unknown): MeshError {
  try {
    fn()
  } catch (err) {
    return err as MeshError
  }
  throw new Error('was let in')
}

const small = { promptTokens: 10, maxTokens: 10 }

test('requests per minute are counted over the last sixty seconds, and the wait that is told is enough', (t) => {
  const { state, limiter } = setup()
  const who = principal({ requestsPerMinute: 3 })
  for (let i = 0; i < 3; i++) {
    limiter.admit(who, 'm', small).settle(20)
    state.now += 5000
  }
  const refused = refusal(() => limiter.admit(who, 'm', small))
  t.is(refused.code, 'RATE_LIMITED')
  const wait = refused.retryAfterMs ?? 0
  t.ok(wait > 40_000 && wait <= 46_000, `told to wait ${wait} ms`)
  state.now += wait
  limiter.admit(who, 'm', small)
  t.is(refusal(() => limiter.admit(who, 'm', small)).code, 'RATE_LIMITED', 'only one had room')
})

test('tokens per minute are reserved before and corrected after', (t) => {
  const { state, limiter } = setup()
  const who = principal({ tokensPerMinute: 1000 })
  const first = limiter.admit(who, 'm', { promptTokens: 100, maxTokens: 700 })
  t.is(refusal(() => limiter.admit(who, 'm', { promptTokens: 100, maxTokens: 200 })).code, 'RATE_LIMITED')
  first.settle(150)
  limiter.admit(who, 'm', { promptTokens: 100, maxTokens: 200 })
  state.now += 61_000
  limiter.admit(who, 'm', { promptTokens: 100, maxTokens: 900 })
  t.pass('a minute later the window is empty')
})

test('a request larger than the whole token limit runs when nothing else did', (t) => {
  const { limiter } = setup()
  const who = principal({ tokensPerMinute: 100 })
  limiter.admit(who, 'm', { promptTokens: 500, maxTokens: 500 })
  t.is(refusal(() => limiter.admit(who, 'm', small)).code, 'RATE_LIMITED')
})

test('concurrent requests are given back when they settle, once', (t) => {
  const { limiter } = setup()
  const who = principal({ concurrentRequests: 2 })
  const first = limiter.admit(who, 'm', small)
  limiter.admit(who, 'm', small)
  t.is(refusal(() => limiter.admit(who, 'm', small)).code, 'RATE_LIMITED')
  first.settle(5)
  first.settle(5)
  limiter.admit(who, 'm', small)
  t.is(refusal(() => limiter.admit(who, 'm', small)).code, 'RATE_LIMITED', 'settling twice gave back one')
})

test('requests that run at the same time cannot together pass a budget', (t) => {
  const { state, limiter } = setup()
  const who = principal({ budget: { tokens: 100, period: 'day' } })
  limiter.admit(who, 'm', { promptTokens: 10, maxTokens: 50 })
  const refused = refusal(() => limiter.admit(who, 'm', { promptTokens: 10, maxTokens: 50 }))
  t.is(refused.code, 'QUOTA_EXCEEDED')
  t.is(refused.details.remainingTokens, 40)
  t.is(limiter.budgetRemaining(who), 40)
  const lease = limiter.admit(who, 'm', { promptTokens: 10, maxTokens: undefined })
  t.is(lease.maxTokens, 30, 'an answer without a bound is bounded by what is left')
  t.is(limiter.budgetRemaining(who), 0)
  lease.settle(12)
  state.spent = 12
  t.is(limiter.budgetRemaining(who), 28, 'what was not used is there again')
})

test('a user’s limit holds over all of the user’s keys', (t) => {
  const { limiter } = setup()
  const user = { concurrentRequests: 1 }
  limiter.admit(principal({}, user, 'k1'), 'm', small)
  t.is(refusal(() => limiter.admit(principal({}, user, 'k2'), 'm', small)).code, 'RATE_LIMITED')
})

test('a refused request charges nothing', (t) => {
  const { limiter } = setup()
  const who = principal({ requestsPerMinute: 1 }, { models: ['other'] })
  t.is(refusal(() => limiter.admit(who, 'm', small)).code, 'FORBIDDEN')
  limiter.admit(who, 'other', small)
  t.pass('the key’s one request was still there')
})
