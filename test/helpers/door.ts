import { join } from 'node:path'
import type { Test } from 'brittle'
import { PACKAGE_ROOT } from '../../lib/worker-base/index.js'
import type { AuthWorker } from '../../workers/auth/index.js'
import { GatewayWorker } from '../../workers/gateway/index.js'
import { ProcessorWorker } from '../../workers/processor/index.js'
import { adminKey, type Stranger, start, startAuth, startStranger, testHome, testOptions, until } from './mesh.js'

/** A mesh with the embedded model and an HTTP door, as tests of the door use it. */
export interface Door {
  home: string
  /** `http://127.0.0.1:port` */
  url: string
  key: string
  auth: AuthWorker
  gateway: GatewayWorker
  /** A client of the authority, to make keys with. */
  authority: Stranger
  /** Asks with the admin's key; `body` as JSON where it is no text. */
  ask(path: string, body?: unknown, init?: RequestInit): Promise<Response>
  /** A key with limits, known to the gateway. */
  newKey(limits: object): Promise<string>
}

export async function startDoor(
  t: Test,
  settings: {
    gateway?: object
    http?: object
    engine?: object
    /** Variables of the stand-in engine; absent: the embedded model. */
    standIn?: Record<string, string>
    /** False: nothing is waited for. Absent: until the model is loaded. */
    isReady?: boolean
  } = {},
): Promise<Door> {
  const home = await testHome(t)
  const auth = await startAuth(t, home)
  const gateway = await start(
    t,
    new GatewayWorker(
      testOptions(home, 'g1', { http: { port: 0, ...settings.http }, gateway: { ...settings.gateway } }),
    ),
  )
  const options = testOptions(home, 'p1', { engine: { gpu: 'off', ...settings.engine } })
  if (settings.standIn !== undefined) Object.assign(process.env, settings.standIn)
  const modulePath = join(PACKAGE_ROOT, 'dist', 'bench', 'stand-in-engine.js')
  await start(t, new ProcessorWorker({ ...options, ...(settings.standIn && { engine: { modulePath } }) }))
  const url = gateway.status().addresses.http ?? ''
  const ready = async (): Promise<boolean> => (await fetch(`${url}/readyz`)).status === 200
  const waits = settings.isReady !== false
  if (waits && url.startsWith('http:')) await until(ready, 'the gateway is ready', 20_000)
  await until(
    () =>
      !waits ||
      gateway.net.linksTo('processor').some(({ load }) => load?.models.some(({ state }) => state === 'loaded')),
    'the model is loaded',
    20_000,
  )
  const authority = await startStranger(t, home, auth.publicKey)
  const key = adminKey(home)
  const ask: Door['ask'] = (path, body, init = {}) =>
    fetch(url + path, {
      method: body === undefined ? 'GET' : 'POST',
      ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      ...init,
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', ...init.headers },
    })
  return {
    home,
    url,
    key,
    auth,
    gateway,
    authority,
    ask,
    async newKey(limits) {
      const { key: made } = await authority.call('keys.create', { limits }, { key })
      await until(
        async () => (await fetch(`${url}/v1/models`, { headers: { authorization: `Bearer ${made}` } })).ok,
        'the new key is known',
      )
      return made
    },
  }
}
