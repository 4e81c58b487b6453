import { readProfile } from '../../lib/home/index.js'
import { backUp, keyFile } from '../helpers/backup.js'
import { Machine } from '../helpers/machine.js'
import { adminKey, until } from '../helpers/mesh.js'
import { noNamespaces, plugIn, removeMachines, unplug } from '../helpers/namespaces.js'
import { testUnless } from '../helpers/needs.js'
import { onTeardown } from '../helpers/teardown.js'

/** The authority's machine is lost for good, and its backup is restored on another one, at another address. */

interface Status {
  workers: { role: string; name: string; state: string }[]
}

testUnless(
  noNamespaces,
  'an authority restored on another machine is found by the gateways that run, by one that starts then, and by clients that know the old address',
  { timeout: 180_000 },
  async (t) => {
    onTeardown(t, removeMachines)
    const old = await Machine.make(t, plugIn('old', 51))
    const g1 = await Machine.make(t, plugIn('gw1', 52))
    const g2 = await Machine.make(t, plugIn('gw2', 53))
    const guest = await Machine.make(t, plugIn('client', 54))
    const fresh = await Machine.make(t, plugIn('fresh', 55))
    old.up('--role', 'auth', '--network', 'lan')
    await old.worker('auth', 'auth')
    const joins = async (machine: Machine, name: string): Promise<void> => {
      const { invite } = await old.infermesh<{ invite: string }>('invite', '--role', 'gateway')
      await machine.infermesh('join', invite, '--name', name)
      machine.up('--http-port', '0')
      await machine.worker('gateway', name)
    }
    await Promise.all([joins(g1, 'g1'), joins(g2, 'g2')])
    const key = adminKey(old.home)
    const { address, network } = readProfile(old.home)
    const mesh = ['--mesh', `${address}@${network.bootstrap[0]}`, '--key', key]
    const users = async (machine: Machine, ...options: string[]) => {
      const { users: list } = await machine.infermesh<{ users: { name: string }[] }>('users', 'ls', ...options)
      return list
        .map(({ name }) => name)
        .sort()
        .join()
    }
    await until(async () => (await users(guest, ...mesh)) === 'admin', 'a client is served', 20_000)
    await old.infermesh('users', 'add', 'ann')
    const secret = await keyFile(t)
    const file = await backUp(t, old.home, secret)
    // The gateways have more of the directory and the accounts than will be restored.
    await old.infermesh('users', 'add', 'bob')
    const { invite: later } = await old.infermesh<{ invite: string }>('invite', '--role', 'gateway')
    t.ok(later.startsWith('imv_'))
    await old.down()
    unplug('old')
    await g2.down()

    const began = performance.now()
    await fresh.infermesh('restore', file, '--key-file', secret)
    fresh.up()
    await fresh.worker('auth', 'auth')
    t.is(readProfile(fresh.home).network.bootstrap[0], '10.213.7.55:26700')
    const ready = async () => {
      const { workers } = await guest.infermesh<Status>('status', ...mesh)
      return workers
        .filter(({ state }) => state === 'ready')
        .map(({ name }) => name)
        .sort()
        .join()
    }
    await until(async () => (await ready().catch(() => '')).includes('auth,g1'), 'the gateway that ran has it', 30_000)
    t.comment(
      `restored, started and linked ${((performance.now() - began) / 1000).toFixed(1)} s after the old one was gone`,
    )
    g2.up('--http-port', '0')
    await g2.worker('gateway', 'g2')
    await until(
      async () => (await ready().catch(() => '')) === 'auth,g1,g2',
      'the one that starts then has it, too',
      30_000,
    )
    t.is(await users(guest, ...mesh), 'admin,ann', 'a client that knows the old address sees what was restored')
    await fresh.infermesh('users', 'add', 'carl')
    t.is(await users(guest, ...mesh), 'admin,ann,carl')
    await g1.down()
    g1.up('--http-port', '0')
    await until(async () => (await ready().catch(() => '')) === 'auth,g1,g2', 'and it is found after a restart', 30_000)
    await Promise.all([fresh, g1, g2].map((machine) => machine.down()))
  },
)

testUnless(
  noNamespaces,
  'of two machines that were restored from one backup the second does not start while the first runs',
  { timeout: 120_000 },
  async (t) => {
    onTeardown(t, removeMachines)
    const old = await Machine.make(t, plugIn('lost', 61))
    const first = await Machine.make(t, plugIn('first', 62))
    const second = await Machine.make(t, plugIn('second', 63))
    const third = await Machine.make(t, plugIn('third', 64))
    old.up('--role', 'auth', '--network', 'lan')
    await old.worker('auth', 'auth')
    const secret = await keyFile(t)
    const file = await backUp(t, old.home, secret)
    await old.down()
    unplug('lost')

    for (const machine of [first, second]) await machine.infermesh('restore', file, '--key-file', secret)
    first.up()
    await first.worker('auth', 'auth')
    const twice = /The original runs: its auth auth is there and answers over the network/
    await t.exception(second.infermesh('up', '--detach', '--no-check'), twice)
    // The backup names another address than that which the first has.
    await t.exception(third.infermesh('restore', file, '--key-file', secret), twice)
    await first.down()
    second.up()
    await second.worker('auth', 'auth')
    await second.down()
  },
)
