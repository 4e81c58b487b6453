import type { Test } from 'brittle'
import DHT from 'hyperdht'
import { readAccountsKey, writeAccountsKey } from '../lib/home/index.js'
import {
  encodeKey,
  type JournalRecord,
  newApiKey,
  type RequestOf,
  SCOPES,
  TokenVerifier,
} from '../lib/protocol/index.js'
import { Directory } from '../lib/store/index.js'
import { Store } from '../lib/worker-base/index.js'
import { AccountsCore } from '../workers/auth/accounts-core.js'
import type { Actor } from '../workers/auth/actor.js'
import { Invites } from '../workers/auth/invites.js'
import { Keys } from '../workers/auth/keys.js'
import { Members } from '../workers/auth/members.js'
import { Models } from '../workers/auth/models.js'
import { StoreWriter } from '../workers/auth/store-writer.js'
import { Throttle } from '../workers/auth/throttle.js'
import { Users } from '../workers/auth/users.js'

/** When the requests of `usageRecord` were made. */
export const USED_AT = Date.UTC(2026, 0, 31, 15, 30)
/** Public keys that nobody has. */
export const peerKey = (number: number): string => encodeKey(Buffer.alloc(32, number))
export const AUTHORITY = peerKey(255)
export const ADMIN: Actor = { user: 'root', scopes: SCOPES }
/** A page of all that a test makes. */
export const ALL = { limit: 1000 }
/** A key that may infer and is not limited, with what the test sets. */
export const newKeyFor = (over: Partial<RequestOf<'keys.create'>> = {}): RequestOf<'keys.create'> => ({
  scopes: ['inference'],
  limits: {},
  ...over,
})

/** What a gateway records of a request, with what the test sets. */
export function usageRecord(over: Partial<JournalRecord> = {}): JournalRecord {
  return {
    requestId: 'req_1',
    at: USED_AT,
    keyId: 'key1',
    user: 'alice',
    model: 'org/m:Q8_0',
    kind: 'chat',
    promptTokens: 10,
    cachedTokens: 4,
    completionTokens: 5,
    outcome: 'stop',
    queueMs: 0,
    totalMs: 12,
    ...over,
  }
}

/** What the authority decides with, on real stores, without a network and with a clock that the test moves. */
export async function openDomain(t: Test, dir?: string) {
  const clock = { now: Date.UTC(2026, 0, 31, 15, 30) }
  const workerDir = dir ?? (await t.tmp())
  const store = new Store(workerDir)
  await store.start()
  t.teardown(() => store.stop(), { order: 1 })
  const key = readAccountsKey(workerDir) ?? { core: 'accounts', encryptionKey: Buffer.alloc(32, 7) }
  writeAccountsKey(workerDir, key)
  const authority = DHT.keyPair(Buffer.alloc(32, 255))
  const tokens = new TokenVerifier('mesh', encodeKey(authority.publicKey))
  const core = new AccountsCore({ store, workerDir, tokens, onOpening() {}, onCurrent() {} }, key)
  const accounts = await core.open(false)
  const directory = new Directory(store.own('directory'))
  await directory.open()
  /** What keeps the accounts from moving, where the test says so. */
  const fault: { renew?: Error | undefined } = {}
  const writer = new StoreWriter({
    accounts,
    directory,
    now: () => clock.now,
    renew: async (from) => {
      if (fault.renew !== undefined) throw fault.renew
      return core.renew(from)
    },
  })
  const keys = new Keys({ writer, newKey: newApiKey, perUser: 100 })
  const users = new Users(writer, keys)
  const invites = new Invites(writer, newApiKey)
  const models = new Models(writer)
  const throttle = new Throttle(3, () => clock.now)
  const members = new Members({ writer, invites, models, authority: AUTHORITY, throttle })
  return { clock, fault, store, core, accounts, directory, writer, keys, users, invites, models, members }
}
