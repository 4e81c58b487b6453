import type { HTTPMethods } from 'fastify'
import type { MethodName } from '../../../lib/protocol/index.js'

/** What a request brings besides its headers. */
export interface RequestParts {
  params: Record<string, string>
  query: Record<string, string>
  body: Record<string, unknown>
}

/** One route of the management API: a method of the mesh by another name. */
export interface ApiRoute {
  http: HTTPMethods & ('GET' | 'POST' | 'PATCH' | 'DELETE')
  /** After /api/v1. A `*` stands for a name with slashes. */
  path: string
  /** The method, and who serves it: the authority, asked over this gateway's link, or this gateway itself. */
  call: Call
  summary: string
  tag: string
  status: 200 | 201 | 204
  /** Query parameters and what they mean. */
  query?: Record<string, string>
  /** Field of the answer that is a credential, made just now. */
  makes?: 'token' | 'key'
  /** Field of the answer whose list has the one that the path names, by this field. */
  find?: { list: string; by: string }
  /** The method's request; the method's own schema checks it. */
  input: (parts: RequestParts) => Record<string, unknown>
}

interface Call {
  at: 'authority' | 'gateway'
  method: MethodName
}
const authority = (method: MethodName): Call => ({ at: 'authority', method })
const gateway = (method: MethodName): Call => ({ at: 'gateway', method })

const nothing = () => ({})
/** What every list takes. */
const PAGE = { limit: 'At most this many, up to 1000; by default 100', after: 'The `next` of the page before' }
const fromBody = ({ body }: RequestParts) => body
/** The body, and a field that the path names. */
const withParam =
  (param: string, field = param) =>
  ({ params, body }: RequestParts) => ({ ...body, [field]: params[param] })
const onlyParam =
  (param: string, field = param) =>
  ({ params }: RequestParts) => ({ [field]: params[param] })

/** A number where the text is one; else the text, which the schema then refuses by name. */
function numberOf(text: string | undefined): unknown {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : text
}

/** Query parameters that were given, some of them as numbers. */
const fromQuery =
  (...numbers: string[]) =>
  ({ query }: RequestParts) =>
    Object.fromEntries(
      Object.entries(query).map(([name, text]) => [name, numbers.includes(name) ? numberOf(text) : text]),
    )

function route(
  http: ApiRoute['http'],
  path: `/${string}`,
  call: Call,
  summary: string,
  input: ApiRoute['input'],
  rest: Partial<Pick<ApiRoute, 'status' | 'query' | 'find' | 'makes'>> = {},
): ApiRoute {
  return { http, path, call, summary, tag: path.split('/')[1] ?? '', status: 200, input, ...rest }
}

export const apiRoutes: readonly ApiRoute[] = [
  route(
    'POST',
    '/login',
    authority('login'),
    'Exchanges a name and password for a token, good for 15 minutes',
    fromBody,
    { makes: 'token' },
  ),
  route(
    'POST',
    '/register',
    authority('users.register'),
    'Makes a user and its first key for oneself, where the mesh allows that; the key is shown this once',
    fromBody,
    { status: 201, makes: 'key' },
  ),
  route('GET', '/me', gateway('usage.self'), 'Who the credential belongs to, its limits and what it has used', nothing),
  route('GET', '/whoami', gateway('usage.self'), 'The same as /me', nothing),
  route(
    'POST',
    '/me/password',
    authority('users.passwd'),
    'Sets one’s own password; wants the old one, or a login of the last five minutes',
    fromBody,
    { status: 204 },
  ),

  route('GET', '/users', authority('users.list'), 'Lists users', fromQuery('limit'), { query: PAGE }),
  route('POST', '/users', authority('users.add'), 'Adds a user', fromBody, { status: 201 }),
  route('GET', '/users/:name', authority('users.list'), 'One user', onlyParam('name'), {
    find: { list: 'users', by: 'name' },
  }),
  route(
    'PATCH',
    '/users/:name',
    authority('users.limits'),
    'Sets a user’s limits; they replace the old ones',
    withParam('name'),
  ),
  route('POST', '/users/:name/password', authority('users.passwd'), 'Sets a user’s password', withParam('name'), {
    status: 204,
  }),
  route(
    'DELETE',
    '/users/:name',
    authority('users.remove'),
    'Removes a user and revokes the user’s keys',
    onlyParam('name'),
    {
      status: 204,
    },
  ),

  route(
    'GET',
    '/keys',
    authority('keys.list'),
    'Lists one’s own API keys, newest first; for an admin everyone’s',
    fromQuery('limit'),
    { query: { ...PAGE, user: 'Only this user’s' } },
  ),
  route('POST', '/keys', authority('keys.create'), 'Makes an API key, which is shown this once', fromBody, {
    status: 201,
    makes: 'key',
  }),
  route('GET', '/keys/:id', authority('keys.list'), 'One API key', onlyParam('id'), {
    find: { list: 'keys', by: 'id' },
  }),
  route(
    'PATCH',
    '/keys/:id',
    authority('keys.update'),
    'Changes an API key: its label, and narrows it; an admin may widen it',
    withParam('id'),
  ),
  route('DELETE', '/keys/:id', authority('keys.revoke'), 'Revokes an API key', onlyParam('id')),

  route(
    'GET',
    '/usage',
    authority('usage.query'),
    'One’s own usage; for an admin everyone’s',
    ({ query: { by, ...query }, ...parts }) => ({
      ...fromQuery('from', 'to', 'limit')({ ...parts, query }),
      ...(by !== undefined && { by: by.split(',') }),
    }),
    {
      query: {
        from: 'Milliseconds since the epoch',
        to: 'Milliseconds since the epoch',
        user: 'Only this user’s',
        keyId: 'Only this key’s',
        by: 'What makes a row: some of hour, day, user, key and model, with commas between them',
        ...PAGE,
      },
    },
  ),

  route(
    'POST',
    '/usage/verify',
    authority('usage.verify'),
    'Adds up the journals anew and mends the totals; with an id, tells how far that check is',
    fromBody,
  ),

  route('GET', '/members', authority('members.list'), 'Lists the workers that belong to the mesh', fromQuery('limit'), {
    query: PAGE,
  }),
  route(
    'DELETE',
    '/members/:member',
    authority('members.remove'),
    'Takes a worker out of the mesh, by name, role/name or public key, and cuts its links',
    onlyParam('member'),
  ),
  route('GET', '/workers', gateway('mesh.status'), 'Who runs in the mesh, as this gateway sees it', nothing),

  route('GET', '/models', gateway('models'), 'Lists the mesh’s models and who has each', fromQuery('limit'), {
    query: PAGE,
  }),
  route(
    'POST',
    '/models',
    gateway('models.add'),
    'Has a processor serve a GGUF file that lies on its machine',
    fromBody,
    {
      status: 201,
    },
  ),
  route(
    'POST',
    '/models/default',
    authority('models.default'),
    'Makes a model the one of requests that name none',
    fromBody,
  ),
  route('POST', '/models/approve', authority('models.approve'), 'Lets a guest processor serve a model', fromBody),
  route(
    'DELETE',
    '/models/*',
    gateway('models.remove'),
    'Takes a model off one processor, or off all',
    ({ params, query }) => ({ ...query, name: params['*'] }),
    { query: { processor: 'Name of the only processor that is to forget it' } },
  ),

  route('GET', '/invites', authority('invites.list'), 'Lists invites, newest first', fromQuery('limit'), {
    query: PAGE,
  }),
  route('POST', '/invites', authority('invites.create'), 'Makes an invite, which is shown this once', fromBody, {
    status: 201,
  }),
  route('DELETE', '/invites/:id', authority('invites.revoke'), 'Revokes an invite', onlyParam('id'), { status: 204 }),

  route('GET', '/audit', authority('audit.list'), 'Who changed what, newest first', fromQuery('limit'), {
    query: PAGE,
  }),
]
