import test from 'brittle'
import { MeshError, type MethodName, methods, validate } from '../lib/protocol/index.js'

/** What people are told of a value that does not fit, by the schemas of the methods themselves. */

function told(method: MethodName, value: unknown): string {
  try {
    validate(methods[method].request, value, 'request')
  } catch (err) {
    return MeshError.from(err).message
  }
  throw new Error(`${method} takes it`)
}

const user = { role: 'user', content: 'x' }

test('what is wrong is said by its place, in plain words', (t) => {
  const cases: [MethodName, unknown, string][] = [
    ['users.add', {}, 'name: it is missing: expected a text'],
    ['users.add', { name: 5 }, 'name: expected a text, got a number'],
    ['users.add', { name: 'ann', role: 'boss' }, 'role: expected one of admin, user'],
    ['users.add', { name: 'ann', password: 'short' }, 'password: expected at least 8 characters'],
    ['users.add', { name: 'ann', extra: 1 }, 'extra: there is no such field'],
    [
      'users.add',
      { name: 'ann', limits: { budget: { tokens: 1.5, period: 'day' } } },
      'limits.budget.tokens: expected a whole number, got a fraction',
    ],
    ['users.add', { name: 'ann', limits: { models: [] } }, 'limits.models: expected at least one item'],
    ['users.list', { limit: 5000 }, 'limit: expected at most 1000'],
    ['keys.create', null, 'expected an object, got null'],
    ['chat', { kind: 'chat' }, 'messages: it is missing: expected a list'],
    ['chat', { kind: 'chat', messages: {} }, 'messages: expected a list, got an object'],
    [
      'chat',
      { kind: 'chat', messages: [{ role: 'x' }] },
      'messages[0].role: expected one of system, user, assistant, tool',
    ],
    [
      'chat',
      { kind: 'chat', messages: [user], sampling: { logitBias: { a: 1 } } },
      'sampling.logitBias.a: this name is not allowed: expected a token id',
    ],
    ['complete', { kind: 'completion', prompt: { a: 1 } }, 'prompt: expected a text, or 1 to 300000 token ids'],
  ]
  for (const [method, value, message] of cases) t.is(told(method, value), `request: ${message}`)
})

test('a value that may be a secret is not shown', (t) => {
  t.absent(told('users.add', { name: 'ann', password: ['correct horse'] }).includes('horse'))
  t.absent(told('users.register', { name: 'correct horse', password: 'battery staple' }).includes('horse'))
})
