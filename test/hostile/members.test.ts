import test, { type Test } from 'brittle'
import Corestore from 'corestore'
import type Hypercore from 'hypercore'
import type { NoiseStream } from 'hyperdht'
import { type AccountsAccess, readAccountsAccess } from '../../lib/home/index.js'
import { Link } from '../../lib/link/index.js'
import { CLIENT_HELLO, decodeKey, encodeKey, type Hello, PROTOCOL_VERSION } from '../../lib/protocol/index.js'
import { Accounts } from '../../lib/store/index.js'
import { loadIdentity } from '../../lib/worker-base/identity.js'
import type { AuthWorker } from '../../workers/auth/index.js'
import { GatewayWorker } from '../../workers/gateway/index.js'
import {
  adminKey,
  dial,
  start,
  startAuth,
  startStranger,
  TestWorker,
  testHome,
  testOptions,
  until,
  untilJoined,
} from '../helpers/mesh.js'

/** What a member does that does not play by the rules, before and after it was removed. */

/** A gateway that was admitted, and told how to read the accounts. From here on the test acts in its name. */
interface Rogue {
  keyPair: ReturnType<typeof loadIdentity>
  hello: Hello
  access: AccountsAccess
  corestore: Corestore
  directory: Hypercore
  accounts: Hypercore
}

async function admitRogue(t: Test, auth: AuthWorker): Promise<Rogue> {
  const worker = await start(t, new TestWorker('gateway', testOptions(auth.home, 'rogue')))
  await untilJoined(worker)
  const journal = worker.store.journal()
  await journal.ready()
  const { accounts, accountsEncryptionKey } = await until(async () => {
    try {
      return await worker.net.authority().call('gateway.enlist', { journal: encodeKey(journal.key) })
    } catch {
      return undefined
    }
  }, 'it has enlisted')
  await worker.stop()
  const corestore = new Corestore(await t.tmp())
  t.teardown(() => corestore.close(), { order: 1 })
  const [directory, secret] = [
    corestore.get({ key: auth.directory.core.key }),
    corestore.get({ key: decodeKey(accounts), encryption: { key: Buffer.from(accountsEncryptionKey, 'hex') } }),
  ]
  for (const core of [directory, secret]) {
    await core.ready()
    core.download({ start: 0, end: -1 })
  }
  return {
    keyPair: loadIdentity(worker.workerDir),
    hello: {
      protocolVersion: PROTOCOL_VERSION,
      version: '0.0.0',
      role: 'gateway',
      name: 'rogue',
      since: Date.now(),
      addresses: {},
    },
    access: { accounts, accountsEncryptionKey },
    corestore,
    directory,
    accounts: secret,
  }
}

/** A connection in the rogue's name that asks for everything. @param hello absent: it never says who it is */
async function connect(
  t: Test,
  auth: AuthWorker,
  { keyPair, corestore }: Rogue,
  to: { publicKey: string },
  hello?: Hello | typeof CLIENT_HELLO,
): Promise<{ conn: NoiseStream; closedAt: Promise<number> }> {
  const conn = await dial(t, auth, to.publicKey, keyPair)
  conn.on('error', () => {})
  const closedAt = new Promise<number>((resolve) => conn.on('close', () => resolve(performance.now())))
  if (hello !== undefined) {
    const link = new Link({ conn, hello, roleOf: () => 'auth' })
    // It does not heed a goodbye.
    link.on('close', () => {})
  }
  corestore.replicate(conn)
  return { conn, closedAt }
}

test('a member that never says hello is given no core, and is cut off after 5 s', async (t) => {
  const home = await testHome(t)
  const auth = await startAuth(t, home)
  const gateway = await start(t, new GatewayWorker(testOptions(home, 'g1')))
  await untilJoined(gateway)
  const rogue = await admitRogue(t, auth)
  await until(() => gateway.directory.member(encodeKey(rogue.keyPair.publicKey)), 'the gateway knows it')
  const began = performance.now()
  const silent = [await connect(t, auth, rogue, auth), await connect(t, auth, rogue, gateway)]
  for (const { closedAt } of silent) {
    const afterMs = (await closedAt) - began
    t.ok(afterMs > 4500 && afterMs < 8000, `closed after ${Math.round(afterMs)} ms`)
  }
  t.is(rogue.directory.length, 0)
  t.is(rogue.accounts.length, 0)
})

test('a removed gateway that keeps its connections is cut off at once, and reads nothing of what is written later', {
  timeout: 60_000,
}, async (t) => {
  const home = await testHome(t)
  const auth = await startAuth(t, home)
  const options = testOptions(home, 'g1')
  const gateway = await start(t, new GatewayWorker(options))
  await untilJoined(gateway)
  const key = adminKey(home)
  const call = { key }
  const admin = await startStranger(t, home, auth.publicKey)
  const ask = async (text: string, at = gateway): Promise<number> => {
    const headers = { authorization: `Bearer ${text}` }
    return (await fetch(`${at.status().addresses.http}/v1/models`, { headers })).status
  }
  await until(async () => (await ask(key)) === 200, 'the gateway checks keys')
  const rogue = await admitRogue(t, auth)
  await until(() => gateway.directory.member(encodeKey(rogue.keyPair.publicKey)), 'the gateway knows it')

  const links = [
    await connect(t, auth, rogue, auth, rogue.hello),
    await connect(t, auth, rogue, gateway, rogue.hello),
    await connect(t, auth, rogue, auth),
  ]
  await admin.call('users.add', { name: 'before' }, call)
  const copy = new Accounts(rogue.accounts)
  await copy.open()
  await until(() => copy.users.has('before'), 'as a member it reads the accounts')
  const readBefore = rogue.accounts.length

  let refused = 0
  let asking = true
  const asked = (async () => {
    while (asking) if ((await ask(key)) !== 200) refused++
  })()
  const { accountsMoved, wasLastGateway } = await admin.call('members.remove', { member: 'rogue' }, call)
  const removedAt = performance.now()
  t.alike({ accountsMoved, wasLastGateway }, { accountsMoved: true, wasLastGateway: false })
  for (const { closedAt } of links) {
    const afterMs = (await closedAt) - removedAt
    t.ok(afterMs < 1000, `cut ${Math.round(afterMs)} ms after the answer`)
  }
  const kept = rogue.accounts.length
  t.ok(kept - readBefore <= 3, 'of what came after, it has read of its own removal at most')
  const { key: later } = await admin.call('keys.create', { label: 'later' }, call)
  await until(async () => (await ask(later)) === 200, 'the other gateway reads what is written now')
  asking = false
  await asked
  t.is(refused, 0, 'and has refused no key meanwhile')

  // It knocks again, as whom it likes, and has even learned the new core's key.
  const moved = readAccountsAccess(gateway.workerDir)
  t.unlike(moved, rogue.access)
  const next = rogue.corestore.get({
    key: decodeKey(moved?.accounts ?? ''),
    encryption: { key: Buffer.from(rogue.access.accountsEncryptionKey, 'hex') },
  })
  await next.ready()
  next.download({ start: 0, end: -1 })
  const seen = rogue.directory.length
  for (const peer of [auth, gateway]) {
    await connect(t, auth, rogue, peer, rogue.hello)
    await connect(t, auth, rogue, peer, CLIENT_HELLO)
  }
  await until(() => rogue.directory.length > seen, 'it may read the directory, as everyone')
  await admin.call('users.add', { name: 'after' }, call)
  await until(async () => (await ask(key)) === 200, 'the mesh goes on')
  t.is(rogue.accounts.length, kept, 'of the old core it has no block more')
  t.absent(copy.users.has('after'))
  t.is(next.length, 0, 'and of the new one nothing')
  await copy.close()

  await until(() => gateway.net.directory.core.length === auth.directory.core.length, 'the gateway knows all')
  await auth.stop()
  await gateway.stop()
  const again = await start(t, new GatewayWorker(options))
  t.is(await ask(later, again), 200, 'without the authority a gateway opens the accounts that it knew last')
  t.is(await ask(key, again), 200)
})
