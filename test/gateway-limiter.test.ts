import test from 'brittle'
import type { BudgetPeriod, Limits, MeshError } from '../lib/protocol/index.js'
import type { Principal } from '../lib/store/index.js'
import { estimateTokens } from '../workers/gateway/requests/estimate.js'
import { Limiter } from '../workers/gateway/requests/limiter.js'

const START = Date.UTC(2026, 0, 31, 12)

function principal(key: Limits, user: Limits = {}, keyId = 'k1'): Principal {
  return { keyId, user: 'ann', role: 'user', scopes: ['inference'], limits: { key, parents: [], user } }
}

/** A limiter with a clock that the test moves and a ledger that it fills. */
function setup() {
  const state = { now: START, spent: 0 }
  const ledger = {
    spent: (_subject: string, _period: BudgetPeriod) => state.spent,
    resetMs: (period: BudgetPeriod) => (period === 'total' ? undefined : 7.5 * 3_600_000),
  }
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

test('a refusal says in words what is left, and when to try again', (t) => {
  const { state, limiter } = setup()
  const said = (limits: Limits, demand = small) => {
    const { message, retryAfterMs } = refusal(() => limiter.admit(principal(limits), 'm', demand))
    return [message, retryAfterMs]
  }
  const day = { budget: { tokens: 100, period: 'day' as const } }
  t.alike(
    said(day, { promptTokens: 200, maxTokens: 10 }),
    [
      'The key im_k1_… may use 100 tokens a day, and this request needs up to 210: send less, or ask for a shorter answer',
      undefined,
    ],
    'one that nothing was used of: no day is better',
  )
  state.spent = 95
  t.alike(said(day), [
    'The key im_k1_… has 5 of 100 tokens left for today (UTC), and this request needs up to 20. Try again in 8 h, when the next day begins',
    7.5 * 3_600_000,
  ])
  t.alike(said({ budget: { tokens: 100, period: 'total' } }), [
    'The key im_k1_… has 5 of 100 tokens left in all, and this request needs up to 20. It does not begin anew: an admin can raise it',
    undefined,
  ])
  state.spent = 0
  limiter.admit(principal(day), 'm', { promptTokens: 10, maxTokens: 80 })
  t.alike(said(day), [
    'The key im_k1_… has 10 of 100 tokens left for today (UTC), and this request needs up to 20; requests under way hold 90. Try again once they have ended',
    1000,
  ])
  limiter.admit(principal({ requestsPerMinute: 2 }), 'm', small)
  t.ok(/its limit is 2\. Try again in \d+ s$/.test(String(said({ requestsPerMinute: 2 })[0])))
  t.ok(/its limit is 1\. Try again once one has ended$/.test(String(said({ concurrentRequests: 1 })[0])))
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

test('a prompt that has more tokens than was estimated is held with what it has, or refused', (t) => {
  const { state, limiter } = setup()
  const who = principal({ budget: { tokens: 100, period: 'day' } })
  const first = limiter.admit(who, 'm', { promptTokens: 10, maxTokens: 10 })
  limiter.admit(who, 'm', { promptTokens: 10, maxTokens: 10 })
  first.correct(50)
  first.correct(40)
  t.is(limiter.budgetRemaining(who), 20)
  const refused = refusal(() => first.correct(81))
  t.is(refused.code, 'QUOTA_EXCEEDED')
  t.is(refused.details.remainingTokens, 20)
  t.is(limiter.budgetRemaining(who), 20, 'what was refused is not held')
  state.spent = 95
  first.settle(95)
  first.correct(1000)
  t.is(limiter.budgetRemaining(who), 0)
  state.spent = 0
  t.is(limiter.budgetRemaining(who), 80, 'and all of it was given back')
})

test('what a prompt has come to counts in its minute, unless nothing else was in it', (t) => {
  const { state, limiter } = setup()
  const who = principal({ tokensPerMinute: 100 })
  const alone = limiter.admit(who, 'm', { promptTokens: 10, maxTokens: 10 })
  alone.correct(200)
  t.is(refusal(() => limiter.admit(who, 'm', small)).code, 'RATE_LIMITED')
  alone.settle(50)
  const second = limiter.admit(who, 'm', small)
  second.correct(20)
  const refused = refusal(() => second.correct(100))
  t.is(refused.code, 'RATE_LIMITED')
  t.ok((refused.retryAfterMs ?? 0) > 0)
  second.settle(20)
  state.now += 1000
  t.is(limiter.rates(who).tokens?.remaining, 30)
})

test('an answer that a budget bounds gives up what its prompt needs, but for a token', (t) => {
  const { limiter } = setup()
  const who = principal({ budget: { tokens: 100, period: 'day' } })
  const lease = limiter.admit(who, 'm', { promptTokens: 10, maxTokens: undefined })
  t.is(lease.maxTokens, 90)
  lease.correct(60)
  t.is(lease.maxTokens, 40)
  t.is(limiter.budgetRemaining(who), 0)
  lease.correct(99)
  t.is(lease.maxTokens, 1)
  t.is(refusal(() => lease.correct(100)).code, 'QUOTA_EXCEEDED')
  lease.settle(99)
  t.is(limiter.budgetRemaining(who), 100)
})

test('a text is estimated by what a vocabulary has for it', (t) => {
  const each = (text: string) => (estimateTokens([text.repeat(1000)]) - 4) / 1000
  t.is(each('word'), 1)
  t.is(each('7'), 1)
  t.is(each('{}'), 1)
  t.is(each('жд'), 2, 'a byte of two')
  t.is(each('水'), 1.5)
  t.is(each('🦊'), 4, 'a byte each')
  t.is(estimateTokens([[1, 2, 3], '']), 7)
})
