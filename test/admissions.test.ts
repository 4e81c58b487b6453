import test, { type Test } from 'brittle'
import { admissionCode, commitmentTo, newNonce, readCode } from '../lib/protocol/index.js'
import { Admissions } from '../workers/auth/admissions.js'
import { readAudit } from '../workers/auth/audit.js'
import { ADMIN, ALL, AUTHORITY, openDomain, peerKey } from './auth-kit.js'
import { codeOf } from './helpers/mesh.js'

/** Who may ask to join, for how long, and how many at a time: the authority's decisions, with a clock that the test moves. */

const ASKING = { role: 'processor', name: 'p1' } as const
const LAN = '192.168.1.7'

async function open(t: Test) {
  const domain = await openDomain(t)
  const time = { elapsed: 0, isOpen: true }
  const { members, clock } = domain
  const admissions = new Admissions({
    isOpen: () => time.isOpen,
    members,
    authority: AUTHORITY,
    now: () => clock.now,
    elapsed: () => time.elapsed,
  })
  /** An applicant that behaves as ours do. @returns the code that it shows */
  const applies = (
    number: number,
    over: Partial<{ role: 'processor' | 'gateway'; name: string; address: string }> = {},
  ) => {
    const { address = LAN, ...asked } = over
    const applicant = peerKey(number)
    const applicantNonce = newNonce()
    const commitment = commitmentTo(applicantNonce, applicant)
    const { nonce: authorityNonce } = admissions.ask(applicant, address, { commitment, ...ASKING, ...asked })
    const wait = () => admissions.wait(applicant, { nonce: applicantNonce })
    return { wait, code: admissionCode({ authority: AUTHORITY, applicant, authorityNonce, applicantNonce }) }
  }
  const shown = () => admissions.list(ALL).items.map(({ code, name }) => `${code} ${name}`)
  return { ...domain, admissions, time, applies, shown }
}

const thrown = (work: () => unknown) => codeOf(Promise.resolve().then(work))

test('a machine asks, both show one code, and an admin lets it in', async (t) => {
  const { admissions, applies, shown, directory, accounts, clock } = await open(t)
  const { wait, code } = applies(1)
  t.ok(/^[a-z0-9]{3}-[a-z0-9]{3}$/.test(code))
  t.alike(shown(), [], 'nobody sees it before it shows what it committed to')
  t.alike(wait(), { state: 'pending' })
  t.alike(shown(), [`${code} p1`])
  t.is(directory.members.size, 0)
  const member = await admissions.accept(ADMIN, { request: code.toUpperCase().replace('-', ' '), trust: 'guest' })
  t.alike(member, { publicKey: peerKey(1), ...ASKING, addedAt: clock.now, trust: 'guest' })
  t.alike(wait(), { state: 'accepted', member })
  t.alike(shown(), [], 'it asks no more')
  const [entry] = (await readAudit(accounts.bee, ALL)).items
  t.alike([entry?.actor, entry?.action, entry?.target], ['root', 'member.accept', 'processor/p1'])
  t.alike(entry?.detail, { publicKey: peerKey(1), trust: 'guest', address: LAN, code })
})

test('the code stands for both keys and for what both sides chose', (t) => {
  const ends = {
    authority: AUTHORITY,
    applicant: peerKey(1),
    authorityNonce: newNonce(),
    applicantNonce: newNonce(),
  }
  const code = admissionCode(ends)
  t.is(admissionCode(ends), code)
  t.not(admissionCode({ ...ends, authority: peerKey(9) }), code)
  t.not(admissionCode({ ...ends, applicant: peerKey(9) }), code)
  t.not(admissionCode({ ...ends, authorityNonce: newNonce() }), code)
  t.not(admissionCode({ ...ends, applicantNonce: newNonce() }), code)
  t.is(readCode(` ${code.toUpperCase()} `), code)
  t.is(readCode('gaming-pc'), 'gaming-pc')
})

test('an applicant that shows other bytes than it committed to is forgotten', async (t) => {
  const { admissions, shown } = await open(t)
  admissions.ask(peerKey(1), LAN, { commitment: commitmentTo(newNonce(), peerKey(1)), ...ASKING })
  t.is(await thrown(() => admissions.wait(peerKey(1), { nonce: newNonce() })), 'BAD_REQUEST')
  t.is(await thrown(() => admissions.wait(peerKey(1), { nonce: newNonce() })), 'NOT_FOUND')
  const nonce = newNonce()
  admissions.ask(peerKey(1), LAN, { commitment: commitmentTo(nonce, peerKey(2)), ...ASKING })
  t.is(await thrown(() => admissions.wait(peerKey(1), { nonce })), 'BAD_REQUEST', 'nor may it be another’s')
  t.alike(shown(), [])
})

test('a request that is refused, taken back, left alone or too old is over', async (t) => {
  const { admissions, applies, shown, time, accounts } = await open(t)
  const refused = applies(1)
  refused.wait()
  t.is((await admissions.refuse(ADMIN, { request: 'p1' })).publicKey, peerKey(1))
  t.alike(refused.wait(), { state: 'refused' })
  t.is((await readAudit(accounts.bee, ALL)).items[0]?.action, 'member.refuse')
  t.is(await codeOf(admissions.accept(ADMIN, { request: refused.code })), 'NOT_FOUND')

  const back = applies(2)
  back.wait()
  admissions.withdraw(peerKey(2))
  t.is(await thrown(back.wait), 'NOT_FOUND')

  const gone = applies(3, { name: 'gone' })
  gone.wait()
  time.elapsed += 14_999
  t.alike(shown(), [`${gone.code} gone`])
  time.elapsed += 1
  t.alike(shown(), [], 'its machine has not asked for a while')

  const old = applies(4)
  for (let i = 0; i < 59; i++) {
    old.wait()
    time.elapsed += 10_000
  }
  old.wait()
  time.elapsed += 10_000
  t.is(await thrown(old.wait), 'NOT_FOUND', 'after ten minutes, however often it asks')
})

test('requests are few at a time, of one address and in all, and few in a minute', async (t) => {
  const { applies, time, shown } = await open(t)
  for (let i = 1; i <= 4; i++) applies(i, { name: `n${i}` }).wait()
  t.is(await thrown(() => applies(5, { name: 'n5' })), 'BUSY', 'a fifth from one address')
  applies(4, { name: 'n4' }).wait()
  t.is(shown().length, 4, 'one that asks again takes its own place')
  t.is(await thrown(() => applies(6)), 'RATE_LIMITED', 'a seventh in one minute')
  let next = 10
  for (let address = 0; address < 60 && next < 60; address++) {
    const { length } = shown()
    const outcome = await thrown(() => applies(next, { name: `m${next}`, address: `10.0.${address}.1` }).wait())
    if (outcome === undefined) next++
    else if (outcome === 'BUSY') break
    else time.elapsed += 2000
    t.ok(shown().length <= 32 && shown().length >= length - 32)
  }
  t.ok(shown().length <= 32, `${shown().length} wait`)
  const all = await Promise.all(
    Array.from({ length: 100 }, (_, i) => thrown(() => applies(100 + i, { name: `f${i}`, address: `10.1.${i}.1` }))),
  )
  t.ok(all.filter((code) => code === undefined).length <= 30, 'from a hundred addresses no more either')
})

test('an address that floods the mesh with requests keeps no other out', async (t) => {
  const { applies, shown } = await open(t)
  const flood = await Promise.all(
    Array.from({ length: 200 }, (_, i) => thrown(() => applies(10 + i, { name: `f${i}` }).wait())),
  )
  t.is(flood.filter((code) => code === undefined).length, 4)
  applies(1, { address: '192.168.1.8' }).wait()
  t.is(shown().length, 5, 'one of another address waits with them')
})

test('a mesh that takes no requests says so, and a name that is taken is told at once', async (t) => {
  const { admissions, applies, time, invites, members } = await open(t)
  const { entry, secret } = await invites.create(ADMIN, { role: 'processor', expiresInMs: 60_000 })
  await members.join(peerKey(1), { id: entry.id, secret, ...ASKING })
  t.is(await thrown(() => applies(2)), 'CONFLICT')
  t.is(applies(1).wait().member?.name, 'p1', 'a member is told that it is one')
  t.is(await thrown(() => applies(2, { role: 'auth' as never })), 'BAD_REQUEST')
  const first = applies(3, { name: 'p2' })
  const second = applies(4, { name: 'p2', role: 'gateway' })
  first.wait()
  second.wait()
  t.is(await codeOf(admissions.accept(ADMIN, { request: 'p2' })), 'CONFLICT', 'two have the name')
  t.is(await codeOf(admissions.accept(ADMIN, { request: second.code, trust: 'guest' })), 'BAD_REQUEST')
  t.is((await admissions.accept(ADMIN, { request: 'processor/p2' })).publicKey, peerKey(3))
  time.isOpen = false
  t.is(await thrown(() => applies(5, { name: 'p5' })), 'FORBIDDEN')
})

test('a machine that was removed is let in again where an admin says so', async (t) => {
  const { admissions, applies, members, directory } = await open(t)
  applies(1).wait()
  await admissions.accept(ADMIN, { request: 'p1' })
  await members.remove(ADMIN, 'p1')
  t.absent(directory.members.has(peerKey(1)))
  applies(1).wait()
  await admissions.accept(ADMIN, { request: 'p1' })
  t.ok(directory.members.has(peerKey(1)))
  await members.repair()
  t.ok(directory.members.has(peerKey(1)), 'and stays')
})
