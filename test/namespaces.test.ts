import { liveThrough, Machine } from './helpers/machine.js'
import { CLI, until } from './helpers/mesh.js'
import { noNamespaces, plugIn, removeMachines } from './helpers/namespaces.js'
import { testUnless } from './helpers/needs.js'
import { onTeardown } from './helpers/teardown.js'

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
  'a first try becomes a mesh of two machines, as the README says',
  { timeout: 120_000 },
  async (t) => {
    onTeardown(t, removeMachines)
    const first = await Machine.make(t, plugIn('first', 11))
    const second = await Machine.make(t, plugIn('second', 12))
    const third = await Machine.make(t, plugIn('third', 13))
    first.up('--http-port', '0', '--metrics-port', '0')
    await first.worker('metrics', 'metrics')
    await t.exception(first.infermesh('invite'), /ended with 78: .*infermesh network lan/)
    const network = await first.infermesh<{ bootstrap: string[]; restarted: boolean }>('network', 'lan')
    t.ok(network.restarted && network.bootstrap[0]?.startsWith('10.213.7.11:'), JSON.stringify(network))

    const { invite } = await first.infermesh<{ invite: string }>('invite')
    await second.infermesh('join', invite, '--name', 'second')
    second.up()
    await second.worker('processor', 'second')

    const began = performance.now()
    const joining = third.begin('join', '--yes', '--name', 'third')
    const code = await until(() => /"code":"(.*)"/.exec(joining.stderr)?.[1], 'a code', 20_000)
    t.comment(`found over the switch, and a code shown, in ${((performance.now() - began) / 1000).toFixed(1)} s`)
    const { requests } = await first.infermesh<{ requests: { address: string; code: string }[] }>('members', 'requests')
    t.alike(
      requests.map((one) => [one.code, one.address]),
      [[code, '10.213.7.13']],
    )
    await first.infermesh('members', 'accept', code)
    const { code: exit, stderr } = await joining.exited
    t.is(exit, 0, stderr)
    third.up()
    await third.worker('processor', 'third')
    const models = async () => (await first.infermesh<{ models: { processors: string[] }[] }>('models', 'ls')).models
    await until(async () => (await models())[0]?.processors.length === 3, 'all three serve', 20_000)

    // No other network tells of itself.
    await first.infermesh('network', 'private', '--bootstrap', '10.213.7.11:4000')
    const silent = await third.program([process.execPath, CLI, 'join', '--yes', '--home', await t.tmp()])
    t.is(silent.code, 69, silent.stderr)
    await Promise.all([first, second, third].map((machine) => machine.down()))
  },
)
