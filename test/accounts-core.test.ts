import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { readAccountsKey } from '../lib/home/index.js'
import { MeshError, TokenVerifier } from '../lib/protocol/index.js'
import { Accounts } from '../lib/store/index.js'
import { AccountsCore } from '../workers/auth/accounts-core.js'
import { readAudit } from '../workers/auth/audit.js'
import { ADMIN, ALL, newKeyFor, openDomain, peerKey } from './auth-kit.js'
import { codeOf } from './helpers/wait.js'

type Domain = Awaited<ReturnType<typeof openDomain>>

/** Makes a peer a gateway of the mesh. */
async function gateway({ invites, members }: Domain, number: number): Promise<void> {
  const { entry, secret } = await invites.create(ADMIN, { role: 'gateway', expiresInMs: 60_000 })
  await members.join(peerKey(number), { id: entry.id, secret, role: 'gateway', name: `g${number}` })
}

const userNames = ({ writer }: Domain): string[] => [...writer.accounts.users.keys()].sort()

test('removing a gateway moves the accounts, whole, to a core that only new keys read', async (t) => {
  const dir = await t.tmp()
  const domain = await openDomain(t, dir)
  const { writer, core, users, keys, members } = domain
  await users.add(ADMIN, { name: 'ann', role: 'user', limits: {} })
  const { entry } = await keys.create(ADMIN, newKeyFor({ user: 'ann' }))
  await keys.revoke(ADMIN, entry.id)
  await gateway(domain, 1)
  await gateway(domain, 2)
  const before = {
    access: core.access,
    audit: (await readAudit(writer.accounts.bee, ALL)).items,
    accounts: writer.accounts,
  }
  t.is(readFileSync(join(dir, 'accounts.key'), 'utf8').trim().length, 64, 'the first core needs no name')

  const { accountsMoved, wasLastGateway } = await members.remove(ADMIN, 'g1')
  t.alike({ accountsMoved, wasLastGateway }, { accountsMoved: true, wasLastGateway: false })
  const { accounts } = writer
  t.not(accounts, before.accounts)
  t.not(core.access.accounts, before.access.accounts)
  t.not(core.access.accountsEncryptionKey, before.access.accountsEncryptionKey)
  t.is(statSync(join(dir, 'accounts.key')).mode & 0o777, 0o600)
  t.alike([...accounts.users.keys()], ['ann'])
  t.ok(accounts.keys.get(entry.id)?.revokedAt, 'what was revoked stays so')
  t.is(accounts.invites.size, 2)
  t.ok(accounts.removed.has(peerKey(1)))
  t.is(accounts.renewals.size, 0)
  const { items: audit } = await readAudit(accounts.bee, ALL)
  t.alike(audit.slice(1), before.audit, 'the audit trail came along')
  t.is(audit[0]?.action, 'member.remove')

  await users.add(ADMIN, { name: 'bob', role: 'user', limits: {} })
  const old = domain.store.own('accounts', Buffer.from(before.access.accountsEncryptionKey, 'hex'))
  await old.ready()
  t.absent(await old.has(0, old.length), 'the old core’s blocks are gone')
  t.is(accounts.nextAudit, audit.length + 1)

  // A removed gateway that got hold of the new core's blocks all the same.
  const { key, length } = accounts.core
  const stolen = new Accounts(domain.store.replica(key, Buffer.from(before.access.accountsEncryptionKey, 'hex')))
  await stolen.open()
  t.is(stolen.users.size, 0, 'reads nothing of them')
  await stolen.close()
  const blind = domain.store.replica(key)
  for (let i = 0; i < length; i++) t.absent((await blind.get(i)).includes('bob'))
  await blind.close()

  const last = await members.remove(ADMIN, 'g2')
  t.ok(last.wasLastGateway && last.accountsMoved)
  t.alike(userNames(domain), ['ann', 'bob'])
})

test('a move is made once the file names the new core, whatever becomes of the old one', async (t) => {
  const domain = await openDomain(t)
  const { writer, core, users, members } = domain
  await gateway(domain, 1)
  Object.assign(writer.accounts.core, {
    clear: async () => {
      throw new Error('ENOSPC: no space left on device')
    },
  })
  t.ok((await members.remove(ADMIN, 'g1')).accountsMoved)
  await users.add(ADMIN, { name: 'ann', role: 'user', limits: {} })
  t.is(core.access.length, writer.accounts.core.length, 'what is written and what gateways are told of is one core')
})

test('only the removal of a gateway moves the accounts', async (t) => {
  const domain = await openDomain(t)
  const { writer, invites, members } = domain
  const { entry, secret } = await invites.create(ADMIN, { role: 'processor', expiresInMs: 60_000 })
  await members.join(peerKey(1), { id: entry.id, secret, role: 'processor', name: 'p1' })
  const { accounts } = writer
  t.is((await members.remove(ADMIN, 'p1')).accountsMoved, undefined)
  t.is(writer.accounts, accounts)
})

test('nothing is written where a removed gateway reads it: every change waits until the accounts have moved', async (t) => {
  const domain = await openDomain(t)
  const { writer, core, directory, users, members, fault } = domain
  await gateway(domain, 1)
  const before = core.access.accounts
  fault.renew = new Error('ENOSPC: no space left on device')
  t.is((await members.remove(ADMIN, 'g1')).accountsMoved, false)
  t.absent(directory.members.has(peerKey(1)), 'it is removed all the same')
  const { length } = writer.accounts.core
  t.is(await codeOf(users.add(ADMIN, { name: 'ann', role: 'user', limits: {} })), 'DISK_FULL')
  t.is(writer.accounts.core.length, length)

  fault.renew = undefined
  await users.add(ADMIN, { name: 'ann', role: 'user', limits: {} })
  t.not(core.access.accounts, before)
  t.alike(userNames(domain), ['ann'])
})

test('a move that was cut off at any moment leaves one core that counts, and is made up for', async (t) => {
  for (const cut of ['before the directory', 'before the copy', 'in the copy', 'before the file'] as const) {
    const dir = await t.tmp()
    const first = await openDomain(t, dir)
    await first.users.add(ADMIN, { name: 'ann', role: 'user', limits: {} })
    await gateway(first, 1)
    const before = readAccountsKey(dir)
    first.fault.renew = new Error('killed')
    await first.members.remove(ADMIN, 'g1')
    if (cut === 'before the directory') {
      const entry = { publicKey: peerKey(1), role: 'gateway', name: 'g1', addedAt: 0 }
      await first.directory.bee.put(`member/${peerKey(1)}`, Buffer.from(JSON.stringify(entry)))
    }
    // A core that was begun, and that nothing names.
    const half = first.store.own('accounts-0123456789abcdef', Buffer.alloc(32, 1))
    if (cut === 'in the copy') await half.append(Buffer.from('half'))
    if (cut === 'before the file') {
      const persist = first.store.persist
      first.store.persist = async () => {
        throw MeshError.DISK_FULL('killed here')
      }
      t.is(await codeOf(first.core.renew(first.writer.accounts)), 'DISK_FULL')
      first.store.persist = persist
    }
    t.alike(readAccountsKey(dir), before, cut)
    await first.writer.accounts.close()
    await first.directory.close()
    await first.store.stop()

    const second = await openDomain(t, dir)
    t.alike(userNames(second), ['ann'], `${cut}: the old ones count`)
    await second.members.repair()
    await second.writer.renewWhereDue()
    t.unlike(readAccountsKey(dir), before, `${cut}: they have moved`)
    t.absent(second.directory.members.has(peerKey(1)))
    t.alike(userNames(second), ['ann'])
    await second.writer.accounts.close()
    await second.directory.close()
    await second.store.stop()

    const third = await openDomain(t, dir)
    t.alike(userNames(third), ['ann'], `${cut}: and are found there`)
    t.is(third.writer.accounts.renewals.size, 0)
  }
})

test('a file that names accounts which are not here, or no longer, is refused', async (t) => {
  const dir = await t.tmp()
  const domain = await openDomain(t, dir)
  const before = readFileSync(join(dir, 'accounts.key'), 'utf8')
  await gateway(domain, 1)
  await gateway(domain, 2)
  await domain.members.remove(ADMIN, 'g1')
  const [, name = ''] = readFileSync(join(dir, 'accounts.key'), 'utf8').trim().split(' ')
  const tokens = new TokenVerifier('mesh', peerKey(1))
  const opening = (text: string) => {
    writeFileSync(join(dir, 'accounts.key'), text)
    const key = readAccountsKey(dir)
    if (key === undefined) throw new Error('it was just written')
    const { store } = domain
    const options = { store, workerDir: dir, tokens, onOpening() {}, onCurrent() {} }
    return new AccountsCore(options, key).open(true)
  }
  await t.exception(() => opening(before), /accounts\.key names accounts that are not in this store/)
  await t.exception(() => opening(`${'ab'.repeat(32)} accounts-0123456789abcdef`), /Restore the newest copy/)
  t.not(name, 'accounts-0123456789abcdef')
})

test('thousands of entries move in good time', async (t) => {
  const domain = await openDomain(t)
  const { writer, members } = domain
  await gateway(domain, 1)
  await writer.change((draft) => {
    for (let i = 0; i < 5000; i++) draft.audit('root', 'test', `target-${i}`, { detail: 'x'.repeat(100) })
  })
  const began = performance.now()
  await members.remove(ADMIN, 'g1')
  const tookMs = performance.now() - began
  t.comment(`${writer.accounts.nextAudit} audit entries moved in ${Math.round(tookMs)} ms`)
  t.ok(tookMs < 20_000)
  let found = 0
  for await (const _ of writer.accounts.bee.createReadStream({ gt: 'audit/', lt: 'audit0' })) found++
  t.is(found, writer.accounts.nextAudit)
})
