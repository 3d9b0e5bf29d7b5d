package main

var oddTLSScenes, httpScenes, databaseScenes, mailScenes, brokerScenes, clearScenes, datagramScenes []scene
