import { liveThrough, Machine } from '../helpers/machine.js'
import { until } from '../helpers/mesh.js'
import { noNamespaces, plugBack, plugIn, removeMachines } from '../helpers/namespaces.js'
import { testUnless } from '../helpers/needs.js'
import { onTeardown } from '../helpers/teardown.js'

testUnless(
  noNamespaces,
  'machines on one LAN make a mesh, with no network but that',
  { timeout: 120_000 },
  async (t) => {
    onTeardown(t, removeMachines)
    const machines = {
      hub: await Machine.make(t, plugIn('hub', 1)),
      a: await Machine.make(t, plugIn('a', 2)),
      b: await Machine.make(t, plugIn('b', 3)),
      watch: await Machine.make(t, plugIn('watch', 4)),
      guest: await Machine.make(t, plugIn('guest', 5)),
    }
    await liveThrough(t, machines, ['--network', 'lan'])
  },
)

testUnless(
  noNamespaces,
  'machines that get other addresses while they run find each other again, without anybody’s doing',
  { timeout: 180_000 },
  async (t) => {
    onTeardown(t, removeMachines)
    const hub = await Machine.make(t, plugIn('hub2', 21))
    const member = await Machine.make(t, plugIn('member', 22))
    hub.up('--network', 'lan', '--http-port', '0', '--metrics-port', '0')
    await hub.worker('processor', 'processor')
    const { invite } = await hub.infermesh<{ invite: string }>('invite')
    await member.infermesh('join', invite, '--name', 'member')
    member.up()
    await member.worker('processor', 'member')
    const serving = async () =>
      (await hub.infermesh<{ models: { processors: string[] }[] }>('models', 'ls')).models[0]?.processors.length
    await until(async () => (await serving()) === 2, 'both serve', 20_000)

    for (const [name, host, what] of [
      ['member', 23, 'the member'],
      ['hub2', 24, 'the machine of the authority and the gateway'],
    ] as const) {
      const began = performance.now()
      plugBack(name, host)
      const worker =
        name === 'member' ? () => member.worker('processor', 'member') : () => hub.worker('gateway', 'gateway')
      await until(
        async () => (await worker()).addresses.dht?.startsWith(`10.213.7.${host}:`),
        `${what} says so`,
        30_000,
      )
      await until(async () => (await serving().catch(() => 0)) === 2, `${what} is found`, 30_000)
      t.pass(`${what} has another address: all serve after ${((performance.now() - began) / 1000).toFixed(1)} s`)
    }
    await Promise.all([hub, member].map((machine) => machine.down()))
  },
)
