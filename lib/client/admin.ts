import type { CallOptions } from '../link/index.js'
import type { InputOf, MethodName, ResponseOf } from '../protocol/index.js'

type Ask = <M extends MethodName>(name: M, body: InputOf<M>, options?: CallOptions) => Promise<ResponseOf<M>>

/**
 * What an admin manages. A key of a user that is no admin may still list, make and revoke its own keys, change its own
 * password and read its own usage. All throw MeshError: AUTHORITY_DOWN where the auth worker cannot be reached.
 */
export type Admin = ReturnType<typeof makeAdmin>

export function makeAdmin({ authority, gateway }: { authority: Ask; gateway: Ask }) {
  /** One method as a function. */
  const call =
    <M extends MethodName>(name: M, ask: Ask = authority) =>
    (body: InputOf<M>, options?: CallOptions): Promise<ResponseOf<M>> =>
      ask(name, body, options)
  /** A method that takes nothing, and gives one list. */
  const list =
    <M extends MethodName, K extends keyof ResponseOf<M>>(name: M, body: InputOf<M>, field: K) =>
    async (options?: CallOptions): Promise<ResponseOf<M>[K]> =>
      (await authority(name, body, options))[field]

  return {
    users: {
      add: call('users.add'),
      list: list('users.list', {}, 'users'),
      limits: call('users.limits'),
      /** Removes a user and revokes the user's keys. */
      remove: call('users.remove'),
      passwd: call('users.passwd'),
    },
    keys: {
      /** The answer's `key` is the whole key, shown this once. */
      create: call('keys.create'),
      list: list('keys.list', {}, 'keys'),
      /** Every connected gateway refuses the key within a second. */
      revoke: call('keys.revoke'),
    },
    members: {
      list: list('members.list', {}, 'members'),
      /** Takes a worker out of the mesh and cuts its links. */
      remove: call('members.remove'),
    },
    invites: {
      /** The answer's `invite` is the whole invite, shown this once. */
      create: call('invites.create'),
      list: list('invites.list', {}, 'invites'),
      revoke: call('invites.revoke'),
    },
    audit: {
      list: async (body: InputOf<'audit.list'> = {}, options?: CallOptions) =>
        (await authority('audit.list', body, options)).entries,
    },
    usage: {
      /** Totals by hour, user, key and model, or what `by` says. */
      query: async (body: InputOf<'usage.query'> = {}, options?: CallOptions) =>
        (await authority('usage.query', body, options)).rows,
      /** Adds up the journals anew and mends the totals. Begins a check, or with its `id` tells how far one is. */
      verify: call('usage.verify'),
    },
    models: {
      /** Has a processor serve a GGUF file that lies on its machine. */
      add: call('models.add', gateway),
      remove: call('models.remove', gateway),
      /** Makes a model the one of requests that name none. */
      setDefault: call('models.default'),
      /** Lets a guest serve a model. */
      approve: call('models.approve'),
    },
  }
}
