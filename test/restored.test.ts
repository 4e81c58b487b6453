import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Test } from 'brittle'
import { makePrivateDir, readHomeInvite, readProfile, writeHomeInvite, writeProfile } from '../lib/home/index.js'
import type { BaseWorker } from '../lib/worker-base/index.js'
import { GatewayWorker } from '../workers/gateway/index.js'
import { backUp, keyFile, restoreTo } from './helpers/backup.js'
import {
  adminKey,
  linked,
  ready,
  type Stranger,
  sleep,
  spawnNode,
  start,
  startAuth,
  startStranger,
  testHome,
  testOptions,
  until,
} from './helpers/mesh.js'

/** A mesh goes on after its authority, or one of its gateways, came back from a backup: nothing forks, usage counts once. */

const BY = ['user'] as const

interface Ask {
  url: string
  key: string
}

/** Requests that were served in the running test. */
let served = 0

async function ask({ url, key }: Ask): Promise<number> {
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: 'count', max_tokens: 2 }),
  })
  await response.text()
  if (response.ok) served++
  return response.status
}

/** Serves one request, as soon as the gateway can. */
async function serve(to: Ask): Promise<void> {
  await until(async () => (await ask(to)) === 200, 'a request is served', 30_000)
}

function httpOf(gateway: BaseWorker): string {
  return gateway.status().addresses.http ?? ''
}

/** The key of the first journal of a gateway. */
async function journalOf({ store }: BaseWorker): Promise<string> {
  const core = store.journal()
  await core.ready()
  return core.key.toString('hex')
}

async function requestsOf(authority: Stranger, key: string): Promise<number> {
  const { rows } = await authority.call('usage.query', { by: [...BY] }, { key })
  // One that came while no processor was linked is in the usage as a failure.
  return rows.reduce((sum, { requests, failures }) => sum + requests - failures, 0)
}

async function namesOf(authority: Stranger, key: string): Promise<string[]> {
  const { users } = await authority.call('users.list', {}, { key })
  return users.map(({ name }) => name).sort()
}

/** A home on "another machine" that has joined the mesh of the first. */
async function joinedHome(t: Test, home: string): Promise<string> {
  const other = join(await testHome(t), 'joined')
  makePrivateDir(other)
  const invite = readHomeInvite(home)
  if (invite === undefined) throw new Error('the home has no invite')
  writeProfile(other, readProfile(home))
  writeHomeInvite(other, invite)
  return other
}

function startProcessor(t: Test, home: string): void {
  spawnNode(t, 'bench/stand-in-processor.js', [home, 'p1'], { STAND_IN_SLOTS: '4', STAND_IN_TOKENS_PER_S: '1000' })
}

test('an authority restored from a backup: gateways elsewhere follow it, their requests count once, nothing forks', {
  timeout: 120_000,
}, async (t) => {
  served = 0
  const key = await keyFile(t)
  const home = join(await testHome(t), 'first')
  let auth = await startAuth(t, home)
  const admin = adminKey(home)
  const other = await joinedHome(t, home)
  const gateway = await start(t, new GatewayWorker(testOptions(other, 'g1')))
  startProcessor(t, other)
  let authority = await startStranger(t, home, auth.publicKey)
  const toGateway = { url: httpOf(gateway), key: admin }

  await serve(toGateway)
  await authority.call('users.add', { name: 'ann', role: 'user' }, { key: admin })
  const file = await backUp(t, home, key)

  await authority.call('users.add', { name: 'bob', role: 'user' }, { key: admin })
  const { key: bobs } = await authority.call('keys.create', { user: 'bob' }, { key: admin })
  await serve({ ...toGateway, key: bobs })
  // The directory of the gateway goes beyond the backup's, too.
  const { name: model } = gateway.directory.models.values().next().value ?? { name: '' }
  await authority.call('models.default', { name: model }, { key: admin })
  await until(async () => (await requestsOf(authority, admin)) === served, 'both requests are counted')
  const before = gateway.directory.core
  const longer = before.length
  await until(() => before.contiguousLength >= auth.directory.core.length, 'the gateway has the whole directory')

  const isForked = watchConflicts(t)
  for (const round of ['once', 'from the same file once more']) {
    await authority.close()
    await auth.stop()
    rmSync(home, { recursive: true })
    // Nobody knows of the restore yet.
    await serve(toGateway)
    await restoreTo(home, file, key)
    auth = await startAuth(t, home)
    await linked(auth, gateway)
    authority = await startStranger(t, home, auth.publicKey)
    t.alike(await namesOf(authority, admin), ['admin', 'ann'], `${round}: users are as at the backup`)
    const here = auth.directory.core
    await until(() => before.fork === here.fork && before.length === here.length, 'the directory follows')
    await until(async () => (await ask({ ...toGateway, key: bobs })) === 401, 'a key that is lost is refused', 15_000)
    await until(() => gateway.directory.members.size === auth.directory.members.size, 'members are as at the authority')
    await serve(toGateway)
    await authority.call('users.add', { name: `carl-${here.fork}`, role: 'user' }, { key: admin })
    const { key: carls } = await authority.call('keys.create', { user: `carl-${here.fork}` }, { key: admin })
    await until(
      async () => (await ask({ ...toGateway, key: carls })) === 200,
      'a new key is good at the gateway',
      15_000,
    )
  }
  t.ok(longer > 0 && before.fork > 0, 'the gateway had more of the directory than was restored')
  // Two before, and in each round one while the authority was away, and at least two after it.
  t.ok(served >= 8, `${served} requests were served`)
  await until(async () => (await requestsOf(authority, admin)) >= served, 'all requests are counted')
  await sleep(1500)
  t.is(await requestsOf(authority, admin), served, 'each once')
  let check = await authority.call('usage.verify', { dryRun: true }, { key: admin })
  await until(async () => {
    check = await authority.call('usage.verify', { id: check.id }, { key: admin })
    return check.state !== 'running'
  }, 'the journals are added up anew')
  t.alike([check.state, check.different], ['done', 0], 'the totals are what the journals say')
  t.absent(isForked(), 'no core was ever found to be signed twice')
})

test('an authority and a gateway that are killed again and again at their first start after a restore go on at the next', {
  timeout: 120_000,
}, async (t) => {
  const key = await keyFile(t)
  const home = join(await testHome(t), 'first')
  const auth = await startAuth(t, home)
  const admin = adminKey(home)
  const gateway = await start(t, new GatewayWorker(testOptions(home, 'g1')))
  await linked(auth, gateway)
  const file = await backUp(t, home, key)
  await gateway.stop()
  await auth.stop()
  rmSync(home, { recursive: true })
  await restoreTo(home, file, key)
  const dirOf = (role: string, name: string) => join(home, 'workers', `${role}-${name}`)
  let kills = 0
  for (const [role, name] of [
    ['auth', 'auth'],
    ['gateway', 'g1'],
  ] as const) {
    const isMarked = () => existsSync(join(dirOf(role, name), 'restored.json'))
    for (let after = 150; isMarked() && after < 5000; after += 70) {
      const args = ['--wtype', role, '--rack', name, '--data-dir', home, '--set', 'log.level=silent']
      const child = spawnNode(
        t,
        'worker.js',
        [...args, '--set', 'http.port=0'].slice(0, role === 'auth' ? -2 : undefined),
      )
      await sleep(after)
      child.process.kill('SIGKILL')
      await child.exited
      kills++
    }
    t.absent(isMarked(), `${role}: one of them came as far as to go on`)
  }
  t.comment(`${kills} starts were killed`)
  const again = await startAuth(t, home)
  const back = await start(t, new GatewayWorker(testOptions(home, 'g1')))
  await linked(again, back)
  const authority = await startStranger(t, home, again.publicKey)
  t.alike(await namesOf(authority, admin), ['admin'])
  const { key: made } = await authority.call('keys.create', { user: 'admin' }, { key: admin })
  startProcessor(t, home)
  served = 0
  await serve({ url: httpOf(back), key: made })
  await until(async () => (await requestsOf(authority, admin)) === 1, 'what it serves is counted once')
})

test('a gateway restored from a backup begins another journal, and what the authority has of the first counts once', {
  timeout: 90_000,
}, async (t) => {
  served = 0
  const key = await keyFile(t)
  const home = await testHome(t)
  const auth = await startAuth(t, home)
  const admin = adminKey(home)
  const other = join(await testHome(t), 'gateway')
  const joined = await joinedHome(t, home)
  let gateway = await start(t, new GatewayWorker(testOptions(joined, 'g1')))
  startProcessor(t, home)
  const authority = await startStranger(t, home, auth.publicKey)
  await serve({ url: httpOf(gateway), key: admin })
  await until(async () => (await requestsOf(authority, admin)) === served, 'it is counted')
  const file = await backUp(t, joined, key)
  for (let i = 0; i < 3; i++) await serve({ url: httpOf(gateway), key: admin })
  await until(async () => (await requestsOf(authority, admin)) === served, 'all are counted')
  const first = await journalOf(gateway)
  await gateway.stop()
  rmSync(joined, { recursive: true })

  await restoreTo(other, file, key)
  gateway = await start(t, new GatewayWorker(testOptions(other, 'g1')))
  t.is(await journalOf(gateway), first, 'it is the same gateway')
  t.ok(existsSync(join(gateway.workerDir, 'journals.json')), 'with another journal')
  t.absent(existsSync(join(gateway.workerDir, 'restored.json')), 'once')
  const isForked = watchConflicts(t)
  for (let i = 0; i < 2; i++) await serve({ url: httpOf(gateway), key: admin })
  await until(async () => (await requestsOf(authority, admin)) === served, 'what it serves now is counted, too')
  // A start that is no restore goes on with the journal that there is.
  await gateway.stop()
  gateway = await start(t, new GatewayWorker(testOptions(other, 'g1')))
  await serve({ url: httpOf(gateway), key: admin })
  await until(async () => (await requestsOf(authority, admin)) === served, 'and after one more start')
  await sleep(1500)
  t.is(served, 7)
  t.is(await requestsOf(authority, admin), served, 'each once')
  t.absent(isForked(), 'no core was ever found to be signed twice')
})

test('a backup taken while the authority writes is of one moment: all that was acknowledged before, in order', {
  timeout: 90_000,
}, async (t) => {
  const key = await keyFile(t)
  const home = await testHome(t)
  const args = ['--wtype', 'auth', '--rack', 'auth', '--data-dir', home, '--set', 'log.level=silent']
  const child = spawnNode(t, 'worker.js', args)
  const { publicKey } = await ready(home, 'auth', 'auth', child.process.pid, 20_000)
  const admin = adminKey(home)
  const authority = await startStranger(t, home, publicKey)
  const added: string[] = []
  let going = true
  const writing = (async () => {
    for (let n = 0; going; n++) {
      const name = `user-${String(n).padStart(5, '0')}`
      try {
        await authority.call('users.add', { name, role: 'user' }, { key: admin })
        added.push(name)
      } catch (err) {
        if (going && (err as { code?: string }).code !== 'RATE_LIMITED') throw err
        n--
        await sleep(100)
      }
    }
  })()
  await until(() => added.length >= 20, 'it writes')
  const backups: { file: string; before: number; after: number }[] = []
  for (let i = 0; i < 3; i++) {
    const before = added.length
    const file = await backUp(t, home, key)
    backups.push({ file, before, after: added.length })
  }
  going = false
  await Promise.race([writing.catch(() => {}), sleep(500)])
  child.process.kill('SIGKILL')
  await child.exited
  await authority.close()
  t.ok(
    backups.some(({ before, after }) => after > before),
    'it was written to meanwhile',
  )
  for (const { file, before, after } of backups) {
    const place = join(await testHome(t), 'restored')
    await restoreTo(place, file, key)
    const auth = await startAuth(t, place)
    const asked = await startStranger(t, place, auth.publicKey)
    const { users } = await asked.call('users.list', { limit: 1000 }, { key: admin })
    const names = users
      .map(({ name }) => name)
      .filter((name) => name.startsWith('user-'))
      .sort()
    t.ok(names.length >= before && names.length <= after + 1, `${before} <= ${names.length} <= ${after} + 1`)
    t.alike(names, added.slice(0, names.length), 'none of them is missing in between')
    await asked.close()
    await auth.stop()
  }
})

/** Whether hypercore has found two blocks signed for one place: it says so on standard error alone. */
function watchConflicts(t: Test): () => boolean {
  let forked = false
  const { error, log } = console
  const watched =
    (say: (...words: unknown[]) => void) =>
    (...words: unknown[]) => {
      if (String(words[0]).includes('conflict')) forked = true
      say(...words)
    }
  console.error = watched(error)
  console.log = watched(log)
  t.teardown(() => Object.assign(console, { error, log }))
  return () => forked
}
