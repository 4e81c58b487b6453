import { mkdirSync, readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { Test } from 'brittle'
import { PACKAGE_ROOT } from '../../lib/worker-base/index.js'
import { link, readManifest } from './installed.js'
import { runProgram } from './process.js'

/** Where this checkout has each version of each package. */
function installedVersions(): Map<string, Map<string, string>> {
  const lock: { packages: Record<string, { version: string; name?: string }> } = JSON.parse(
    readFileSync(join(PACKAGE_ROOT, 'package-lock.json'), 'utf8'),
  )
  const found = new Map<string, Map<string, string>>()
  for (const [path, { version, name = path.split('node_modules/').at(-1) ?? '' }] of Object.entries(lock.packages)) {
    if (path !== '') found.set(name, (found.get(name) ?? new Map()).set(version, join(PACKAGE_ROOT, path)))
  }
  return found
}

/** An npm registry on loopback with the packages of this checkout's node_modules, packed when they are asked for. @returns its address */
export async function startRegistry(t: Test): Promise<string> {
  const versions = installedVersions()
  const work = await t.tmp()
  let packedCount = 0
  const tarball = async (dir: string): Promise<Buffer> => {
    const place = join(work, String(packedCount++))
    mkdirSync(place)
    link(dir, join(place, 'package'))
    const { code, stderr } = await runProgram(['tar', 'czf', 'package.tgz', 'package'], { cwd: place })
    if (code !== 0) throw new Error(stderr)
    return readFileSync(join(place, 'package.tgz'))
  }
  const server: Server = createServer(async (request, response) => {
    const [name = '', version] = decodeURIComponent(request.url ?? '')
      .slice(1)
      .split('/-/')
    const all = versions.get(name)
    const dir = all?.get(version ?? '')
    try {
      if (dir !== undefined) return response.end(await tarball(dir))
      const told = [...(all ?? [])].flatMap(([one, path]) => {
        try {
          const dist = { tarball: `http://${request.headers.host}/${name}/-/${one}` }
          return [[one, { ...readManifest(path), dist }] as const]
        } catch {
          // Of another platform.
          return []
        }
      })
      if (version !== undefined || told.length === 0) response.statusCode = 404
      response.end(
        JSON.stringify({ name, 'dist-tags': { latest: told.at(-1)?.[0] }, versions: Object.fromEntries(told) }),
      )
    } catch (err) {
      response.statusCode = 500
      response.end(String(err))
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
}
