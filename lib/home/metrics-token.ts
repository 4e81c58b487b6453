import { randomBytes } from 'node:crypto'
import { homeFiles } from './paths.js'
import { readSecret, writeSecret } from './secrets.js'

/** What a scraper of the metrics must show where they can be read from other machines and no setting says it: metrics.token. */

/** The token of this home, made at its first use. @throws MeshError STORE_INVALID when the file cannot be read */
export function metricsToken(home: string): string {
  const path = homeFiles(home).metricsToken
  const known = readSecret(path)
  if (known !== undefined && known !== '') return known
  const token = randomBytes(32).toString('base64url')
  writeSecret(path, token)
  return token
}
