import type { Test } from 'brittle'
import { GatewayWorker } from '../../workers/gateway/index.js'
import { adminKey, start, startAuth, testHome, testOptions, until, untilJoined } from './mesh.js'

export type Json = Record<string, unknown>
/** What the management API answered. */
export interface Answer {
  status: number
  headers: Headers
  body: Json & { error?: { message: string; type: string; param: string | null; code: string } }
}

/** A mesh with one gateway and no processor: what the management API needs. */
export async function startApi(t: Test, authFlags: Record<string, unknown> = {}) {
  const home = await testHome(t)
  const auth = await startAuth(t, home, { auth: authFlags })
  const gateway = await start(t, new GatewayWorker(testOptions(home, 'g1')))
  await untilJoined(gateway)
  const url = `${gateway.status().addresses.http}/api/v1`
  const key = adminKey(home)
  /** Asks the API; `credential` undefined sends none. */
  const ask = async (
    line: string,
    body?: unknown,
    credential: string | undefined = key,
    headers: Record<string, string> = {},
  ): Promise<Answer> => {
    const [method, path] = line.split(' ')
    const response = await fetch(url + path, {
      method,
      headers: {
        ...(credential !== '' && { authorization: `Bearer ${credential}` }),
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    })
    const text = await response.text()
    return { status: response.status, headers: response.headers, body: text === '' ? {} : (JSON.parse(text) as Json) }
  }
  const login = (name: string, password: string) => ask('POST /login', { name, password }, '')
  await until(async () => (await ask('GET /me')).status === 200, 'the gateway knows the admin')
  return { home, auth, gateway, url, key, ask, login }
}
