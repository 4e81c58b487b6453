import test from 'brittle'
import { decodeInvite, encodeInvite, encodeKey, type InviteText, MeshError, newApiKey } from '../lib/protocol/index.js'

const key = (byte: number) => encodeKey(Buffer.alloc(32, byte))

function invite(more: Partial<InviteText> = {}): InviteText {
  const { id, secret } = newApiKey()
  const network = { kind: 'lan' as const, bootstrap: ['192.168.1.5:49737'] }
  return {
    id,
    secret,
    profile: { address: key(1), authority: key(2), network },
    role: undefined,
    name: undefined,
    ...more,
  }
}

test('an invite comes back as it was, and is short enough to copy', (t) => {
  for (const given of [invite(), invite({ role: 'processor', name: 'lap' }), invite({ role: 'gateway' })]) {
    const text = encodeInvite(given)
    t.alike(decodeInvite(text), given)
    t.ok(text.length < 260, `${text.length} characters`)
    t.alike(decodeInvite(` ${text}\n`), given)
  }
})

test('anything else is refused as no invite', (t) => {
  const text = encodeInvite(invite())
  const others = [
    '',
    'imv_',
    'imv_yyyy',
    text.slice(4),
    text.slice(0, -10),
    text.replace('imv_', 'im_'),
    `${text.slice(0, 20)}!${text.slice(21)}`,
  ]
  for (const other of others) {
    try {
      decodeInvite(other)
      t.fail(`${other.slice(0, 20)} was read`)
    } catch (err) {
      t.ok(err instanceof MeshError && err.code === 'INVITE_INVALID')
    }
  }
})
