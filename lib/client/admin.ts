import type { CallOptions, InputOf, MethodName, ResponseOf } from '../protocol/index.js'
import { gather } from './pages.js'

/** What a list is narrowed by, and how many items of it are wanted; absent: all. */
type Query<M extends MethodName> = Omit<InputOf<M>, 'limit' | 'after'> & { limit?: number }

type Ask = <M extends MethodName>(name: M, body: InputOf<M>, options?: CallOptions) => Promise<ResponseOf<M>>

/**
 * What is managed: by an admin everything, by others with the scope `manage:keys` their own keys, with `read:usage` their own
 * usage. Lists are asked for page by page. All throw MeshError: AUTHORITY_DOWN where the auth worker cannot be reached.
 */
export type Admin = ReturnType<typeof makeAdmin>

export function makeAdmin({ authority, gateway }: { authority: Ask; gateway: Ask }) {
  /** One method as a function. */
  const call =
    <M extends MethodName>(name: M, ask: Ask = authority) =>
    (body: InputOf<M>, options?: CallOptions): Promise<ResponseOf<M>> =>
      ask(name, body, options)

  return {
    users: {
      add: call('users.add'),
      list: ({ limit, ...query }: Query<'users.list'> = {}, options?: CallOptions) =>
        gather(
          (page) => authority('users.list', { ...query, ...page }, options),
          ({ users }) => users,
          limit,
        ),
      limits: call('users.limits'),
      /** Removes a user and revokes the user's keys. The answer says which gateways refuse them by now. */
      remove: call('users.remove'),
      passwd: call('users.passwd'),
    },
    keys: {
      /** The answer's `key` is the whole key, shown this once. */
      create: call('keys.create'),
      list: ({ limit, ...query }: Query<'keys.list'> = {}, options?: CallOptions) =>
        gather(
          (page) => authority('keys.list', { ...query, ...page }, options),
          ({ keys }) => keys,
          limit,
        ),
      /** What is absent stays. */
      update: call('keys.update'),
      /**
       * The answer says by name which gateways refuse the key by now (`confirmedBy`), and which may not yet (`pending`): a
       * gateway that is not linked, or hangs, accepts it until it is linked again.
       */
      revoke: call('keys.revoke'),
    },
    members: {
      list: ({ limit }: Query<'members.list'> = {}, options?: CallOptions) =>
        gather(
          (page) => authority('members.list', page, options),
          ({ members }) => members,
          limit,
        ),
      /** Takes a worker out of the mesh and cuts its links; where it is a gateway, the accounts move out of its sight. */
      remove: call('members.remove'),
    },
    invites: {
      /** The answer's `invite` is the whole invite, shown this once. */
      create: call('invites.create'),
      list: ({ limit }: Query<'invites.list'> = {}, options?: CallOptions) =>
        gather(
          (page) => authority('invites.list', page, options),
          ({ invites }) => invites,
          limit,
        ),
      revoke: call('invites.revoke'),
    },
    /** Machines that ask to join, without an invite. */
    admissions: {
      list: ({ limit }: Query<'admission.list'> = {}, options?: CallOptions) =>
        gather(
          (page) => authority('admission.list', page, options),
          ({ requests }) => requests,
          limit,
        ),
      /** Makes the machine a member, by the code that it shows. */
      accept: call('admission.accept'),
      refuse: call('admission.refuse'),
    },
    audit: {
      /** Newest first. */
      list: ({ limit }: Query<'audit.list'> = {}, options?: CallOptions) =>
        gather(
          (page) => authority('audit.list', page, options),
          ({ entries }) => entries,
          limit,
        ),
    },
    usage: {
      /** Totals by hour, user, key and model, or what `by` says. */
      query: ({ limit, ...query }: Query<'usage.query'> = {}, options?: CallOptions) =>
        gather(
          (page) => authority('usage.query', { ...query, ...page }, options),
          ({ rows }) => rows,
          limit,
        ),
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
