export * from './helpers/machine.js'
