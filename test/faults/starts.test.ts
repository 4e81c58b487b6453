import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import type Hypercore from 'hypercore'
import { homeFiles } from '../../lib/home/index.js'
import { decodeKey, encodeJson } from '../../lib/protocol/index.js'
import { Accounts, accountKeys, changeBee } from '../../lib/store/index.js'
import { Store } from '../../lib/worker-base/index.js'
import { adminKey, readStatus, ready, spawnNode, startAuth, startAuthority, testHome, until } from '../helpers/mesh.js'

/** A start that cannot become ready ends by itself, with a reason and a code that no supervisor takes for success. */

/** Enough that a gateway which is killed as it begins to read them has not read them all. */
const USERS = 3000

test('a start that waits for what cannot come ends with a reason and a code other than 0', async (t) => {
  const { home } = await startAuthority(t)
  const args = ['processor', home, 'p1', 'waits for nothing']
  const { code, stderr } = await spawnNode(t, 'test/worker-child.js', args).exited
  t.is(code, 70)
  t.ok(/infermesh: .*while starting.* nothing on this machine can bring/.test(stderr), stderr)
  t.absent(existsSync(homeFiles(home).status('processor', 'p1')))
})

test('a start that takes for ever ends at its deadline', async (t) => {
  const { home } = await startAuthority(t)
  const args = ['processor', home, 'p1', 'waits for ever']
  const { code, stderr } = await spawnNode(t, 'test/worker-child.js', args).exited
  t.not(code, 0)
  t.ok(/The start was not done within 500 ms/.test(stderr), stderr)
})

test('a command that waits for what cannot come says so, and its code is not 0', async (t) => {
  const { code, stderr } = await spawnNode(t, 'test/waiting-command.js', ['status']).exited
  t.is(code, 70)
  t.is(stderr, 'infermesh: the command waits for what nothing can bring\n')
})

test('a gateway that was killed while the accounts came starts without the network, and reads the rest with it', {
  timeout: 90_000,
}, async (t) => {
  const home = await testHome(t)
  const dirs = { auth: homeFiles(home).worker('auth', 'auth'), gateway: homeFiles(home).worker('gateway', 'g1') }
  const first = await startAuth(t, home)
  await first.stop()
  const store = new Store(dirs.auth)
  await store.start()
  const key = Buffer.from(readFileSync(join(dirs.auth, 'accounts.key'), 'utf8'), 'hex')
  const written = new Accounts(store.own('accounts', key))
  await written.open()
  await changeBee(written.bee, async (batch) => {
    for (let i = 0; i < USERS; i++) {
      const user = { name: `user-${i}`, role: 'user', limits: {}, createdAt: 0 }
      await batch.put(accountKeys.user(user.name), encodeJson(user))
    }
  })
  await store.stop()
  const auth = await startAuth(t, home)

  const settings = ['log.level=silent', 'http.port=0'].flatMap((one) => ['--set', one])
  const args = ['--wtype', 'gateway', '--rack', 'g1', '--data-dir', home, ...settings]
  const start = () => spawnNode(t, 'worker.js', args)
  const credentials = join(dirs.gateway, 'accounts.json')
  const isReady = async (url = '') => {
    const headers = { authorization: `Bearer ${adminKey(home)}` }
    return (await fetch(`${url}/v1/models`, { headers })).status === 200
  }
  const accountsHere = async (work: (core: Hypercore) => Promise<void>): Promise<void> => {
    const { accounts } = JSON.parse(readFileSync(credentials, 'utf8')) as { accounts: string }
    const replicas = new Store(dirs.gateway)
    await replicas.start()
    const core = replicas.replica(decodeKey(accounts))
    await core.ready()
    await work(core)
    await replicas.stop()
  }
  // Killed where the first blocks may have come, and then again after others have.
  for (const moment of ['enlisted', 'reading']) {
    const child = start()
    if (moment === 'enlisted') await until(() => existsSync(credentials), 'it is enlisted', 30_000)
    else {
      const { addresses } = await ready(home, 'gateway', 'g1', child.process.pid, 30_000)
      await until(() => isReady(addresses.http), 'it has the accounts', 30_000)
    }
    child.process.kill('SIGKILL')
    await child.exited
    await accountsHere(async (core) =>
      t.comment(`${moment}: ${core.contiguousLength} of ${core.length} blocks are here`),
    )
  }
  await auth.stop()
  // As a kill leaves it that comes after the newest blocks and before those in the middle.
  await accountsHere((core) => core.clear(2, core.length - 1))

  const offline = start()
  const gateway = await ready(home, 'gateway', 'g1', offline.process.pid, 30_000)
  t.absent(await isReady(gateway.addresses.http), 'it runs, and cannot check keys')
  offline.process.kill('SIGTERM')
  t.is((await offline.exited).code, 0)

  await startAuth(t, home)
  const online = start()
  await until(
    async () => {
      const status = readStatus(home, 'gateway', 'g1')
      return status?.pid === online.process.pid && (await isReady(status?.addresses.http).catch(() => false))
    },
    'it has read the rest',
    30_000,
  )
  t.pass('with the authority it reads what was missing')
})
