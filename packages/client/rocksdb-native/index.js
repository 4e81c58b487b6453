// hypercore-storage loads rocksdb-native by name, 168 MB for all platforms. The client's stores are in memory, so that of it only this is used.

class RocksDB {
  constructor() {
    throw new Error('@infermesh/client keeps nothing on disk: stores there want the package infermesh')
  }
}

/** Settings of a part of a database, which mean nothing in memory. */
class ColumnFamily {
  constructor(name) {
    this.name = name
  }
}

module.exports = RocksDB
module.exports.ColumnFamily = ColumnFamily
