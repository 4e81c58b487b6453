/** What tests make meshes of: real workers of one home, in this process or as programs, and clients of them. */

export * from './authority.js'
export * from './process.js'
export * from './stranger.js'
export * from './wait.js'
export * from './worker.js'
