import test from 'brittle'
import createTestnet from 'hyperdht/testnet.js'
import { liveThrough, Machine } from './helpers/machine.js'
import { onTeardown } from './helpers/teardown.js'

test('machines with homes of their own make one mesh over a private DHT', { timeout: 120_000 }, async (t) => {
  const testnet = await createTestnet(3)
  onTeardown(t, () => testnet.destroy())
  const machine = () => Machine.make(t)
  const machines = {
    hub: await machine(),
    a: await machine(),
    b: await machine(),
    watch: await machine(),
    guest: await machine(),
  }
  const bootstrap = testnet.bootstrap.flatMap(({ host, port }) => ['--bootstrap', `${host}:${port}`])
  await liveThrough(t, machines, ['--network', 'private', ...bootstrap])
})
