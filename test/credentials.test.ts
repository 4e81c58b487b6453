import { get } from 'node:http'
import test from 'brittle'
import { startProxy } from '../cli/shared/proxy.js'
import { MeshClient } from '../lib/client/index.js'
import { MAX_CREDENTIAL_CHARS } from '../lib/protocol/ids.js'
import { credentialIn, hasCredential, KEY_HEADERS, MeshError } from '../lib/protocol/index.js'
import { startDoor } from './helpers/door.js'

/** Where a request says by whose right it is made. */

test('a credential is a bearer’s or a key in a header of its own, and one only', (t) => {
  const found = (headers: Parameters<typeof credentialIn>[0]): string | undefined => {
    try {
      return credentialIn(headers)
    } catch (err) {
      t.ok(err instanceof MeshError && err.code === 'INVALID_API_KEY')
      return 'two'
    }
  }
  const authorization = 'Bearer im_a'
  t.is(found({}), undefined)
  t.is(found({ authorization }), 'im_a')
  t.is(found({ 'x-api-key': 'im_a' }), 'im_a')
  t.is(found({ 'api-key': 'im_a' }), 'im_a')
  t.is(found({ authorization, 'x-api-key': 'im_a', 'api-key': 'im_a' }), 'im_a', 'the same in several places is one')
  t.is(found({ authorization, 'x-api-key': 'im_b' }), 'two')
  t.is(found({ 'api-key': 'im_a', 'x-api-key': 'im_b' }), 'two')
  t.is(found({ 'x-api-key': ['im_a', 'im_b'] }), 'two')
  t.is(found({ authorization: ['Bearer im_a', 'Bearer im_b'] }), 'two')
  t.is(found({ authorization: ['Bearer im_a', 'Bearer im_a'] }), 'im_a')
  t.is(found({ authorization: 'Bearer none', 'x-api-key': 'im_a' }), 'two', 'a placeholder is one, too')
  t.is(found({ authorization, 'x-api-key': '' }), 'im_a', 'an empty one is none')
  t.is(found({ authorization: 'Basic abc', 'x-api-key': 'im_a' }), 'im_a', 'another scheme is none')
  const long = found({ 'x-api-key': 'x'.repeat(MAX_CREDENTIAL_CHARS * 4) })
  t.ok(
    long !== undefined && long.length === MAX_CREDENTIAL_CHARS + 1,
    'one that is too long is cut, and good for nothing',
  )
  t.is(hasCredential({ 'api-key': 'none', authorization: 'Bearer sk-x' }), false)
  t.is(hasCredential({ 'api-key': 'im_a', authorization: 'Bearer sk-x' }), true)
})

test('every door takes a key in each of these headers, and in no address', { timeout: 60_000 }, async (t) => {
  const door = await startDoor(t, { http: { corsOrigins: ['https://chat.example'] } })
  const { key } = door
  const good: Record<string, string>[] = [
    { authorization: `Bearer ${key}` },
    ...KEY_HEADERS.map((name) => ({ [name]: key })),
    { authorization: `Bearer ${key}`, 'x-api-key': key },
  ]
  const bad: Record<string, string>[] = [
    {},
    { authorization: `Bearer ${key}`, 'x-api-key': `${key}x` },
    { 'x-api-key': `Bearer ${key}` },
    { 'x-api-key': `${key}, ${key}` },
    { key },
    { cookie: `api-key=${key}` },
  ]
  for (const path of ['/v1/models', '/api/v1/me']) {
    const status = async (headers: Record<string, string>, query = '') => {
      const response = await fetch(door.url + path + query, { headers })
      const { error } = (await response.json()) as { error?: { code: string; message: string } }
      t.absent(error?.message.includes(key), 'an error tells no key')
      return error === undefined ? response.status : `${response.status} ${error.code}`
    }
    for (const headers of good) t.is(await status(headers), 200, `${path} ${Object.keys(headers)}`)
    for (const headers of bad) t.is(await status(headers), '401 invalid_api_key', `${path} ${Object.keys(headers)}`)
    for (const name of ['api_key', 'api-key', 'x-api-key', 'key', 'token', 'access_token', 'authorization']) {
      t.is(await status({}, `?${name}=${key}`), '401 invalid_api_key', `${path}?${name}`)
    }
  }

  await t.test('a header that comes twice counts twice', async (t) => {
    const status = (path: string, name: string, ...values: string[]) =>
      new Promise<number | undefined>((resolve, reject) => {
        get(door.url + path, { headers: { [name]: values } }, (response) => {
          response.resume()
          resolve(response.statusCode)
        }).on('error', reject)
      })
    for (const path of ['/v1/models', '/api/v1/me']) {
      t.is(await status(path, 'authorization', `Bearer ${key}`, `Bearer ${key}x`), 401, path)
      t.is(await status(path, 'authorization', `Bearer ${key}`, `Bearer ${key}`), 200, `${path}: the same twice`)
      for (const name of KEY_HEADERS) t.is(await status(path, name, key, `${key}x`), 401, `${path} ${name}`)
    }
  })

  await t.test('a page may be allowed to send them', async (t) => {
    const asked = {
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'x-api-key, content-type',
    }
    const preflight = await fetch(`${door.url}/v1/chat/completions`, {
      method: 'OPTIONS',
      headers: { origin: 'https://chat.example', ...asked },
    })
    t.is(preflight.headers.get('access-control-allow-headers'), 'x-api-key, content-type')
  })

  await t.test('the mesh and the proxy lend a key in place of what is none, and never beside one', async (t) => {
    const mesh = new MeshClient({ mesh: door.gateway.profile, key, home: await t.tmp() })
    t.teardown(() => mesh.close(), { order: -1 })
    const proxy = await startProxy({ fetch: mesh.fetch, host: '127.0.0.1', port: 0 })
    t.teardown(() => proxy.close(), { order: -2 })
    const limited = await door.newKey({ models: ['another-model'] })
    for (const ask of [
      (headers: Record<string, string>) => mesh.fetch('http://mesh/v1/models', { headers }),
      (headers: Record<string, string>) => fetch(`${proxy.url}/v1/models`, { headers }),
    ]) {
      const models = async (headers: Record<string, string>) => {
        const response = await ask(headers)
        const { data } = (await response.json()) as { data?: unknown[] }
        return data?.length ?? response.status
      }
      t.is(await models({}), 1)
      for (const name of KEY_HEADERS) {
        t.is(await models({ [name]: 'none' }), 1, `${name}: a placeholder`)
        t.is(await models({ [name]: 'none', authorization: 'Bearer sk-none' }), 1, `${name}: two placeholders`)
        t.is(await models({ [name]: limited }), 0, `${name}: the caller’s own key counts`)
        t.is(await models({ [name]: limited, authorization: `Bearer ${key}` }), 401, `${name}: two that differ`)
      }
    }
    const administer = (headers: Record<string, string>) => fetch(`${proxy.url}/api/v1/me`, { headers })
    t.is((await administer({ 'x-api-key': 'none' })).status, 401)
    t.is((await administer({ 'x-api-key': key })).status, 200)
  })
})
