import type { Test } from 'brittle'
import type { NoiseStream } from 'hyperdht'
import DHT from 'hyperdht'
import createTestnet from 'hyperdht/testnet.js'
import Protomux from 'protomux'

/**
 * A DHT of its own with one peer that listens, and the node of another that may dial it.
 * @param onConnection told of each connection, in its tick
 */
export async function listen(
  t: Test,
  onConnection: (conn: NoiseStream) => void,
): Promise<{ near: DHT; publicKey: Buffer }> {
  const { bootstrap } = await createTestnet(3, { teardown: t.teardown })
  const far = new DHT({ bootstrap, host: '127.0.0.1' })
  const near = new DHT({ bootstrap, host: '127.0.0.1' })
  t.teardown(() => near.destroy({ force: true }), { order: -1 })
  t.teardown(() => far.destroy({ force: true }), { order: -1 })
  const server = far.createServer((conn) => {
    conn.on('error', () => {})
    onConnection(conn)
  })
  await server.listen()
  return { near, publicKey: server.publicKey }
}

/** Two ends of one real connection over a DHT of its own. @param accept attaches what the far end serves */
export async function connect(t: Test, accept: (mux: Protomux) => void): Promise<{ mux: Protomux; conn: NoiseStream }> {
  const { near, publicKey } = await listen(t, (conn) => accept(Protomux.from(conn)))
  const conn = near.connect(publicKey)
  conn.on('error', () => {})
  await conn.opened
  return { mux: Protomux.from(conn), conn }
}
