import test from 'brittle'
import Corestore from 'corestore'
import Hyperbee from 'hyperbee'
import { encodeJson, loginKeyId, loginUserOf, nameSchema } from '../lib/protocol/index.js'
import { journalRecordSchema } from '../lib/protocol/records.js'
import { readGroup, UsageLedger } from '../workers/auth/ledger.js'
import { GatewayWorker } from '../workers/gateway/index.js'
import { JournalWriter } from '../workers/gateway/journal.js'
import { ProcessorWorker } from '../workers/processor/index.js'
import { USED_AT as AT, usageRecord as record } from './auth-kit.js'
import { adminKey, codeOf, start, startAuth, startStranger, testHome, testOptions, until } from './helpers/mesh.js'

const BY = ['hour', 'user', 'key', 'model'] as const

/** Names as the schema of names allows them, the longest included. */
const NAMES = ['ann', 'ann.b@x', 'A_b-c.d@e', `a${'.'.repeat(62)}`, `a${'x'.repeat(62)}`]

test('what a login token uses counts under any name that a user may have', async (t) => {
  for (const name of NAMES) {
    t.ok(nameSchema.safeParse(name).success, name)
    const keyId = loginKeyId(name)
    t.is(loginUserOf(keyId), name)
    t.ok(journalRecordSchema.safeParse(record({ keyId })).success, 'a gateway writes it')
    t.alike(readGroup(encodeJson([record({ keyId })])), { records: [record({ keyId })], malformed: 0 })
  }
  t.is(loginUserOf('ybndrfg8ejkmc'), undefined, 'an API key’s id is no login')
})

test('a key id that would part the usage’s keys is no key id to writer and reader alike', async (t) => {
  for (const keyId of ['a/b', '../x', '', 'a b', 'a\n', 'login:ann/x', 'x'.repeat(129), 'ä']) {
    t.absent(journalRecordSchema.safeParse(record({ keyId })).success, keyId)
    t.is(readGroup(encodeJson([record({ keyId })])).malformed, 1)
  }
})

test('a record of a later version counts, whatever kind of request it tells of', async (t) => {
  const later = { ...record(), kind: 'rerank', outcome: 'paused', speculative: { accepted: 3 } }
  const { records, malformed } = readGroup(encodeJson([record(), later]))
  t.is(malformed, 0)
  t.is(records.length, 2)
  t.absent(journalRecordSchema.safeParse(later).success, 'a gateway of this version writes no such record')
  t.is(readGroup(encodeJson([{ ...later, kind: '' }])).malformed, 1)
  t.is(readGroup(encodeJson([{ ...later, kind: 'k'.repeat(65) }])).malformed, 1)
  t.is(readGroup(encodeJson([{ ...later, kind: 7 }])).malformed, 1)

  const corestore = new Corestore(await t.tmp())
  t.teardown(() => corestore.close())
  const ledger = new UsageLedger(
    new Hyperbee(corestore.get({ name: 'usage' }), { keyEncoding: 'utf-8', valueEncoding: 'binary' }),
  )
  await ledger.open()
  await ledger.fold('j1', 1, 2, records)
  const [row] = await ledger.query({ from: 0 }, BY)
  t.is(row?.requests, 2)
  t.is(row?.completionTokens, 10)
})

test('a gateway that was set back to this version goes on with the journal of the later one', async (t) => {
  const dir = await t.tmp()
  const corestore = new Corestore(dir)
  t.teardown(() => corestore.close(), { order: 1 })
  const core = corestore.get({ name: 'journal' })
  const bee = new Hyperbee(core, { keyEncoding: 'utf-8', valueEncoding: 'binary' })
  const later = { ...record(), kind: 'rerank', speculative: { accepted: 3 } }
  await bee.put('record/0000000000000000', encodeJson([record(), later]))
  const journal = new JournalWriter(core, { dir, clock: () => AT })
  await journal.open()
  t.teardown(() => journal.close())
  t.is(journal.spent('key/key1', 'day', AT), 30, 'budgets count it')
})

test('journals that are folded at the same time lose nothing', async (t) => {
  const corestore = new Corestore(await t.tmp())
  t.teardown(() => corestore.close())
  const ledger = new UsageLedger(
    new Hyperbee(corestore.get({ name: 'usage' }), { keyEncoding: 'utf-8', valueEncoding: 'binary' }),
  )
  await ledger.open()
  // Twenty records of each of five journals, all for the same row.
  const folds = ['j1', 'j2', 'j3', 'j4', 'j5'].map(async (journal, j) => {
    for (let i = 1; i <= 20; i++) await ledger.fold(journal, i, i + 1, [record({ at: AT + 100 * i + j })])
  })
  await Promise.all(folds)
  const rows = await ledger.query({ from: 0 }, BY)
  t.is(rows.length, 1)
  t.is(rows[0]?.requests, 100)
  t.is(rows[0]?.promptTokens, 1000)
  t.is(ledger.lastUsedAt('key1'), AT + 2004, 'the last use is the latest, whichever was folded last')
})

test('what a user with a name such as an e-mail address uses with a token reaches the authority', {
  timeout: 60_000,
}, async (t) => {
  const home = await testHome(t)
  const auth = await startAuth(t, home)
  const gateway = await start(t, new GatewayWorker(testOptions(home, 'g1')))
  await start(t, new ProcessorWorker(testOptions(home, 'p1', { engine: { gpu: 'off' } })))
  const readyz = `${gateway.status().addresses.http}/readyz`
  await until(async () => (await fetch(readyz)).status === 200, 'the gateway is ready', 20_000)
  const client = await startStranger(t, home, gateway.publicKey)
  const authority = await startStranger(t, home, auth.publicKey)
  const key = adminKey(home)
  const name = 'ann.b@x'
  await authority.call('users.add', { name, password: 'correct horse' }, { key })
  const { token } = await authority.call('login', { name, password: 'correct horse' })

  const asked = await until(async () => {
    const answer = await client
      .call(
        'complete',
        { kind: 'completion', prompt: 'Once', maxTokens: 3, sampling: { temperature: 0 } },
        { key: token },
      )
      .catch(() => undefined)
    return answer !== undefined
  }, 'the gateway knows the new user').then(() => client.call('usage.self', {}, { key: token }))
  t.is(asked.keyId, loginKeyId(name))
  t.is(asked.total.requests, 1)

  const query = { keyId: loginKeyId(name), by: ['user', 'key'] as ('user' | 'key')[] }
  const rows = async () => (await authority.call('usage.query', query, { key })).rows
  await until(async () => (await rows()).length === 1, 'the record is folded')
  const [row] = await rows()
  t.is(row?.user, name)
  t.is(row?.keyId, loginKeyId(name))
  t.is(row?.requests, 1)
  t.is(row?.completionTokens, asked.total.completionTokens)
  t.ok(
    (await auth.registry.metrics()).includes('infermesh_journal_records_folded_total{outcome="malformed"} 0'),
    'none counts as malformed',
  )

  const own = await authority.call('usage.query', { ...query, user: name }, { key: token })
  t.is(own.rows.length, 1, 'the user sees it, too')
  await authority.call('users.add', { name: 'bob', password: 'correct horse' }, { key })
  const { token: bobs } = await authority.call('login', { name: 'bob', password: 'correct horse' })
  t.is(await codeOf(authority.call('usage.query', query, { key: bobs })), 'NOT_FOUND', 'others do not')
})
