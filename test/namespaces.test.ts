import { liveThrough, Machine } from './helpers/machine.js'
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
