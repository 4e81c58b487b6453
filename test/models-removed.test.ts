import { copyFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'brittle'
import { GatewayWorker } from '../workers/gateway/index.js'
import { ProcessorWorker } from '../workers/processor/index.js'
import { TINY } from './engine-kit.js'
import { adminKey, codeOf, start, startAuth, startStranger, testHome, testOptions, until } from './helpers/mesh.js'

/** Models that the mesh lists and nobody can serve any more. */

const CPU = { engine: { gpu: 'off', embedded: false } }

test('a model whose file or processor has gone is taken off the list', { timeout: 90_000 }, async (t) => {
  const home = await testHome(t)
  await startAuth(t, home)
  const gateway = await start(t, new GatewayWorker(testOptions(home, 'g1')))
  const client = await startStranger(t, home, gateway.publicKey)
  const key = adminKey(home)
  const file = join(await t.tmp(), 'mine.gguf')
  await copyFile(TINY, file)
  const listed = async () => (await client.call('models', {}, { key })).models.map(({ name }) => name)
  const linked = (publicKey: string) =>
    until(() => gateway.net.members.get(publicKey)?.load?.state === 'ready', 'it is linked', 20_000)
  const remove = (body: { name: string; processor?: string }) => client.call('models.remove', body, { key })

  const first = await start(t, new ProcessorWorker(testOptions(home, 'p1', CPU)))
  await linked(first.publicKey)
  t.is((await client.call('models.add', { path: file }, { key })).default, true)
  t.is((await client.call('models.add', { path: file, name: 'other' }, { key })).default, undefined)

  await t.test('with the file gone, the processor is told', async (t) => {
    await first.stop()
    await rm(file)
    const again = await start(t, new ProcessorWorker(testOptions(home, 'p1', CPU)))
    const load = () => gateway.net.members.get(again.publicKey)?.load
    await until(() => load()?.models.every(({ state }) => state === 'failed') === true, 'it cannot load them', 20_000)
    await until(() => load()?.models.length === 2, 'it has both', 20_000)
    t.alike(await remove({ name: 'mine' }), { processors: ['p1'] })
    await until(async () => !(await listed()).includes('mine'), 'the mesh lists it no more')
    t.alike(await listed(), ['other'])
    await again.stop()
  })

  await t.test('with the processor gone, the mesh forgets it', async (t) => {
    await until(() => gateway.net.members.get(first.publicKey) === undefined, 'it is not linked', 20_000)
    t.is(await codeOf(remove({ name: 'other', processor: 'p7' })), 'NOT_FOUND')
    t.is(await codeOf(remove({ name: 'none' })), 'MODEL_NOT_FOUND')
    t.alike(await remove({ name: 'other' }), { processors: [], forgotten: ['p1'] })
    await until(async () => (await listed()).length === 0, 'the mesh lists it no more')
    t.is(await codeOf(remove({ name: 'other' })), 'MODEL_NOT_FOUND')
  })
})
