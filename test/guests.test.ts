import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'brittle'
import { MeshClient } from '../lib/client/index.js'
import { homeFiles, loadSeed, makePrivateDir, writeProfile } from '../lib/home/index.js'
import { decodeInvite, encodeJson, type Invite } from '../lib/protocol/index.js'
import { directoryKeys, readChanges } from '../lib/store/index.js'
import { GatewayWorker } from '../workers/gateway/index.js'
import { ProcessorWorker } from '../workers/processor/index.js'
import { ADMIN, openDomain, peerKey } from './auth-kit.js'
import { TINY } from './engine-kit.js'
import { adminKey, codeOf, start, startAuth, startStranger, testHome, testOptions, until } from './helpers/mesh.js'
import { testModel } from './helpers/model.js'

/** Which processors get which prompts: the default model, and what a guest may serve. */

async function joined(domain: Awaited<ReturnType<typeof openDomain>>, number: number, trust?: Invite['trust']) {
  const { entry, secret } = await domain.invites.create(ADMIN, { role: 'processor', trust, expiresInMs: 60_000 })
  const worker = { role: 'processor', name: `p${number}` } as const
  return domain.members.join(peerKey(number), { id: entry.id, secret, ...worker })
}

test('the default model is the first ever announced until an admin says otherwise', async (t) => {
  const domain = await openDomain(t)
  const { models, directory } = domain
  await joined(domain, 1)
  await joined(domain, 2)
  t.is(directory.defaultModel, undefined)
  await models.announce(peerKey(1), testModel('phi', 'aa'))
  await models.announce(peerKey(2), testModel('aaa', 'bb'))
  t.is(directory.defaultModel, 'phi')
  const keys: string[] = []
  for await (const { key } of readChanges(directory.bee, 1, directory.core.length)) keys.push(key)
  t.ok(
    keys.indexOf(directoryKeys.defaultModel()) < keys.indexOf(directoryKeys.model('phi')),
    'a gateway to which the blocks come one by one has a default where it has a model',
  )
  await models.withdraw(peerKey(1), 'phi')
  await models.announce(peerKey(2), testModel('aab', 'cc'))
  t.is(directory.defaultModel, 'phi', 'also while nobody has it')
  t.is(await codeOf(models.setDefault(ADMIN, 'phi')), 'MODEL_NOT_FOUND')
  await models.setDefault(ADMIN, 'aab')
  t.is(directory.defaultModel, 'aab')
})

test('the demonstration gives way to the first real model, unless an admin has chosen it', async (t) => {
  const domain = await openDomain(t)
  const { models, directory } = domain
  await joined(domain, 1)
  await joined(domain, 2)
  await joined(domain, 3, 'guest')
  const tiny = testModel('infermesh-tiny', 'aa')
  await models.announce(peerKey(1), tiny)
  t.is(directory.defaultModel, 'infermesh-tiny')
  await models.approve(ADMIN, 'mine', 'p3')
  await models.announce(peerKey(3), testModel('mine', 'bb'))
  t.is(directory.defaultModel, 'infermesh-tiny', 'a guest makes no default')
  await models.announce(peerKey(2), testModel('phi', 'cc'))
  t.is(directory.defaultModel, 'phi')
  const keys: string[] = []
  for await (const { key } of readChanges(directory.bee, 1, directory.core.length)) keys.push(key)
  t.ok(keys.lastIndexOf(directoryKeys.defaultModel()) < keys.indexOf(directoryKeys.model('phi')), 'told before it')
  await models.announce(peerKey(2), testModel('aaa', 'dd'))
  await models.announce(peerKey(2), tiny)
  t.is(directory.defaultModel, 'phi', 'and stays, whatever is announced later')

  await models.setDefault(ADMIN, 'infermesh-tiny')
  await models.announce(peerKey(2), testModel('aab', 'ee'))
  t.is(directory.defaultModel, 'infermesh-tiny', 'what an admin has chosen gives way to nothing')
})

test('the demonstration that was chosen while it was the default stays it', async (t) => {
  const domain = await openDomain(t)
  const { models, directory } = domain
  await joined(domain, 1)
  await models.announce(peerKey(1), testModel('infermesh-tiny', 'aa'))
  await models.setDefault(ADMIN, 'infermesh-tiny')
  await models.announce(peerKey(1), testModel('phi', 'bb'))
  t.is(directory.defaultModel, 'infermesh-tiny')
})

test('a model that no processor can be told to forget is forgotten by the mesh', async (t) => {
  const domain = await openDomain(t)
  const { models, directory } = domain
  await joined(domain, 1)
  await joined(domain, 2)
  for (const peer of [1, 2]) await models.announce(peerKey(peer), testModel('phi', 'aa'))
  t.alike(await models.forget(ADMIN, 'phi', 'p1'), ['p1'])
  t.ok(directory.models.has('phi'), 'p2 has it still')
  t.alike(await models.forget(ADMIN, 'phi', 'p1'), [], 'again changes nothing')
  t.is(await codeOf(models.forget(ADMIN, 'phi', 'p9')), 'NOT_FOUND')
  t.alike(await models.forget(ADMIN, 'phi'), ['p2'])
  t.absent(directory.models.has('phi'))
  t.alike(await models.forget(ADMIN, 'phi'), [])
  await models.announce(peerKey(2), testModel('phi', 'bb'))
  t.is(directory.models.get('phi')?.hash, 'bb', 'one that comes back with it is heard, whatever file it has')
})

test('a home of an earlier version keeps the default that it had: the first by name', async (t) => {
  const domain = await openDomain(t)
  const { models, directory } = domain
  await joined(domain, 1)
  await models.announce(peerKey(1), testModel('phi', 'aa'))
  await models.announce(peerKey(1), testModel('llama', 'bb'))
  await directory.bee.del(directoryKeys.defaultModel())
  await directory.refresh()
  t.is(directory.defaultModel, undefined)
  await models.repair()
  t.is(directory.defaultModel, 'llama')
  await models.announce(peerKey(1), testModel('aaa', 'cc'))
  await models.repair()
  t.is(directory.defaultModel, 'llama')
})

test('a guest serves what was approved for it, by name, and for nobody else', async (t) => {
  const domain = await openDomain(t)
  const { models, members, directory, invites } = domain
  await joined(domain, 1)
  t.is((await joined(domain, 2, 'guest')).trust, 'guest')
  await joined(domain, 3, 'guest')
  const phi = testModel('phi', 'aa')
  t.is(await codeOf(models.announce(peerKey(2), phi)), 'FORBIDDEN')
  t.absent(directory.models.has('phi'), 'and takes no name in the directory')
  t.absent(directory.mayServe(peerKey(2), 'phi'))
  t.alike((await models.approve(ADMIN, 'phi', 'p2')).models, ['phi'])
  t.alike((await models.approve(ADMIN, 'phi', 'p2')).models, ['phi'], 'again changes nothing')
  await models.announce(peerKey(2), phi)
  t.ok(directory.models.has('phi') && directory.mayServe(peerKey(2), 'phi'))
  t.is(directory.defaultModel, undefined, 'a guest makes no default')
  t.absent(directory.mayServe(peerKey(3), 'phi'))
  t.is(await codeOf(models.announce(peerKey(3), phi)), 'FORBIDDEN')
  t.is(await codeOf(models.approve(ADMIN, 'phi', 'p1')), 'CONFLICT')
  t.is(await codeOf(models.approve(ADMIN, 'phi', 'none')), 'NOT_FOUND')
  for (let i = 1; i < 100; i++) await models.approve(ADMIN, `m${i}`, 'p2')
  t.is(await codeOf(models.approve(ADMIN, 'more', 'p2')), 'CONFLICT')
  await members.remove(ADMIN, 'p2')
  t.absent(directory.mayServe(peerKey(2), 'phi'))
  t.absent(directory.models.has('phi'))
  const gateway = invites.create(ADMIN, { role: 'gateway', trust: 'guest', expiresInMs: 60_000 })
  t.is(await codeOf(gateway), 'BAD_REQUEST')
  // As an earlier version wrote it.
  const old = { publicKey: peerKey(9), role: 'processor', name: 'p9', addedAt: 0 }
  await directory.bee.put(directoryKeys.member(peerKey(9)), encodeJson(old))
  await directory.refresh()
  t.ok(directory.mayServe(peerKey(9), 'anything'), 'members of earlier versions are our own')
})

test('in a mesh, a guest that has a known model gets none of its prompts until an admin approves it', {
  timeout: 60_000,
}, async (t) => {
  const home = await testHome(t)
  const auth = await startAuth(t, home)
  const gateway = await start(t, new GatewayWorker(testOptions(home, 'g1')))
  const own = await start(t, new ProcessorWorker(testOptions(home, 'p1', { engine: { gpu: 'off' } })))
  const key = adminKey(home)
  const authority = await startStranger(t, home, auth.publicKey)
  const client = await startStranger(t, home, gateway.publicKey)
  const listed = async () => {
    const { models } = await client.call('models', {}, { key })
    return models.map(({ name, processors, default: byDefault }) => [name, processors.toSorted().join(), byDefault])
  }
  await until(
    async () => (await fetch(`${gateway.status().addresses.http}/readyz`)).status === 200,
    'the gateway is ready',
    20_000,
  )
  const lists = (expected: unknown[]) =>
    until(async () => JSON.stringify(await listed()) === JSON.stringify(expected), JSON.stringify(expected), 20_000)
  await lists([['infermesh-tiny', 'p1', true]])

  const there = await testHome(t)
  const dir = homeFiles(there).worker('processor', 'friend')
  makePrivateDir(dir)
  const { invite } = await authority.call('invites.create', { role: 'processor', trust: 'guest' }, { key })
  const mesh = new MeshClient({ mesh: auth.profile, home: there, seed: loadSeed(dir) })
  t.teardown(() => mesh.close())
  const { id, secret } = decodeInvite(invite)
  t.is((await mesh.join({ id, secret, role: 'processor', name: 'friend' })).trust, 'guest')
  await mesh.close()
  writeProfile(there, auth.profile)
  const aaa = join(there, 'aaa.gguf')
  await copyFile(TINY, aaa)
  const guest = await start(t, new ProcessorWorker(testOptions(there, 'friend', { engine: { gpu: 'off' } })))
  const addAaa = () => client.call('models.add', { path: aaa, processor: 'friend' }, { key })
  await until(
    () =>
      addAaa().then(
        ({ approved }) => approved === false,
        () => false,
      ),
    'the gateway takes it to the guest',
    20_000,
  )
  const began = performance.now()
  t.alike(await addAaa().then(({ name, processor, approved }) => [name, processor, approved]), ['aaa', 'friend', false])
  t.ok(performance.now() - began < 3000, 'and does not wait for an approval')
  const load = () => gateway.net.members.get(guest.publicKey)?.load
  await until(() => load()?.models.every(({ reason }) => reason?.includes('is a guest')), 'both are refused', 20_000)
  await lists([['infermesh-tiny', 'p1', true]])

  await authority.call('models.approve', { name: 'aaa', processor: 'friend' }, { key })
  await lists([
    ['aaa', 'friend', undefined],
    ['infermesh-tiny', 'p1', true],
  ])
  t.is((await addAaa()).approved, true)
  const ask = () => client.call('complete', { kind: 'completion', prompt: 'One', maxTokens: 1 }, { key })
  for (let i = 0; i < 4; i++) t.is((await ask()).finish.route?.processor, 'p1', 'what names no model')
  await authority.call('models.approve', { name: 'infermesh-tiny', processor: 'friend' }, { key })
  await lists([
    ['aaa', 'friend', undefined],
    ['infermesh-tiny', 'friend,p1', true],
  ])
  await own.stop()
  await until(
    async () => (await ask().catch(() => undefined))?.finish.route?.processor === 'friend',
    'the guest answers',
  )
})
