import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import z32 from 'z32'
import { resolveOptions } from '../lib/client/options.js'
import { findLogin, homeFiles, openSecrets, writeLogin } from '../lib/home/index.js'
import {
  decodeConnectString,
  encodeConnectString,
  hasCredential,
  isConnectString,
  MeshError,
  type MeshProfile,
  newApiKey,
} from '../lib/protocol/index.js'

/** Connect strings: what they carry, what of them is told, and which mesh and key a client takes from where. */

const address = z32.encode(Buffer.alloc(32, 7))
const authority = z32.encode(Buffer.alloc(32, 9))
const profile: MeshProfile = { address, authority, network: { kind: 'lan', bootstrap: ['10.0.0.5:49737'] } }

function failure(work: () => unknown): MeshError {
  try {
    work()
  } catch (err) {
    return MeshError.from(err)
  }
  throw new Error('it did not fail')
}

/** The text with other bytes, and a checksum that fits them. */
function resealed(text: string, change: (bytes: Buffer) => void): string {
  const bytes = Buffer.from(z32.decode(text.slice(4)))
  const body = bytes.subarray(0, -4)
  change(body)
  return `imc_${z32.encode(Buffer.concat([body, createHash('sha256').update(body).digest().subarray(0, 4)]))}`
}

test('a connect string carries the key and how to reach the mesh, whatever its length', (t) => {
  for (let nodes = 0; nodes <= 12; nodes++) {
    const key = newApiKey().text
    const bootstrap = Array.from({ length: nodes }, (_, i) => `node${'x'.repeat(i)}.example:${4000 + i}`)
    const given = { key, profile: { ...profile, network: { kind: 'private' as const, bootstrap } } }
    const text = encodeConnectString(given)
    t.ok(/^imc_[a-z0-9]+$/.test(text), 'nothing of it needs quotes, and a double click marks it whole')
    t.alike(decodeConnectString(` ${text}\n`), given)
    t.alike(decodeConnectString(text.replaceAll(/.{60}/g, '$&\n')), given, 'also one that a mail has folded')
  }
  t.is(failure(() => encodeConnectString({ key: 'sk-none', profile })).code, 'INVALID_API_KEY')
})

test('one that is damaged, cut or of another kind is refused, and nothing of it is shown', (t) => {
  const text = encodeConnectString({ key: newApiKey().text, profile })
  const at = (i: number) => (text[i] === 'y' ? 'b' : 'y')
  const wrong = [
    ...[4, 5, 20, 60, 100, text.length - 8].map((i) => text.slice(0, i) + at(i) + text.slice(i + 1)),
    ...[4, 5, 20, 100, text.length - 5].map((length) => text.slice(0, length)),
    `${text}y4y4`,
    text.toUpperCase(),
    `imc_${'y'.repeat(100_000)}`,
    'imc_!',
    text.slice(4),
    resealed(text, (bytes) => bytes.write('x', bytes.byteLength - 3)),
  ]
  for (const one of wrong) {
    const err = failure(() => decodeConnectString(one))
    t.is(err.code, 'BAD_REQUEST')
    t.absent(err.message.includes(one.slice(4, 24)) && one.length > 24, err.message)
    t.absent(err.cause, 'nor what a reader of it said')
  }
  const later = resealed(text, (bytes) => bytes.writeUInt8(2, 0))
  t.ok(/later version/.test(failure(() => decodeConnectString(later)).message))
})

test('it is a credential wherever one is looked for, and no key', (t) => {
  const text = encodeConnectString({ key: newApiKey().text, profile })
  t.ok(isConnectString(text) && !isConnectString(newApiKey().text))
  t.ok(hasCredential({ authorization: `Bearer ${text}` }), 'a proxy does not lend its own key in its place')
  const err = failure(() => resolveOptions({ mesh: address, key: text }, {}))
  t.is(err.code, 'INVALID_API_KEY')
  t.ok(/connect string/.test(err.message) && !err.message.includes(text))
})

test('a client takes mesh and key from the nearest place that says them', async (t) => {
  const home = await t.tmp()
  const [a, b, c] = [newApiKey().text, newApiKey().text, newApiKey().text]
  const text = encodeConnectString({ key: a, profile })
  const of = (options: object, env: NodeJS.ProcessEnv = {}) => {
    const { address: mesh, key, network, authority: known } = resolveOptions({ home, ...options }, env)
    return { mesh, key, network, authority: known }
  }
  const whole = { mesh: address, key: a, network: profile.network, authority }
  t.alike(of({ mesh: text }), whole)
  t.alike(of({}, { INFERMESH_MESH: text }), whole)
  t.alike(of({ mesh: text }, { INFERMESH_KEY: b }), whole, 'what is given counts before the environment')
  t.alike(of({ mesh: text, key: b }).key, b)
  t.is(of({}, { INFERMESH_MESH: text, INFERMESH_KEY: b }).key, b)
  t.is(failure(() => of({})).code, 'CONFIG_INVALID')

  writeLogin(home, { profile, key: c, user: 'ann', own: false })
  t.alike(of({}), { ...whole, key: c }, 'a home that is logged in needs no more')
  t.is(of({}, { INFERMESH_KEY: b }).key, b)
  t.alike(of({ mesh: address }), { ...whole, key: c }, 'by its address it is found the same way')
  const other = z32.encode(Buffer.alloc(32, 8))
  t.is(of({ mesh: `${other}@10.0.0.9:4000` }).key, undefined, 'no other mesh sees the key')
})

test('a key in the place of an address is not shown', async (t) => {
  const home = await t.tmp()
  for (const mesh of [newApiKey().text, `imv_${'y'.repeat(40)}`]) {
    const err = failure(() => resolveOptions({ home, mesh }, {}))
    t.is(err.code, 'BAD_REQUEST')
    t.absent(err.message.includes(mesh.slice(4, 20)), err.message)
  }
})

test('a login is kept for its owner alone, and one that says something else is named', async (t) => {
  const home = join(await t.tmp(), 'new')
  const login = { profile, key: newApiKey().text, user: 'ann', own: true }
  writeLogin(home, login)
  t.alike(findLogin(home), login)
  t.alike(openSecrets(home), [])
  const { login: path } = homeFiles(home)
  writeFileSync(path, JSON.stringify({ ...login, key: 'sk-secret-text' }))
  const err = failure(() => findLogin(home))
  t.is(err.code, 'CONFIG_INVALID')
  t.ok(err.message.startsWith(`${path}: key: expected an API key`) && !err.message.includes('sk-secret'), err.message)
})
