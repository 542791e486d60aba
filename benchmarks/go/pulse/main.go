// Command pulse is the Go Pulse peer of the benchmarks: streams, replicated maps and pools of goa.design/pulse, used as
// its documentation shows.
//
// It follows benchmarks/contenders/contract.py.
package main

import (
	"context"

	"github.com/redis/go-redis/v9"

	"pulsewire/benchmarks/go/contract"
)

type (
	settings = contract.Settings
	outcome  = contract.Outcome
)

// connected gives a role its client, with the default settings of go-redis.
func connected(run func(context.Context, *redis.Client, settings) (outcome, error)) contract.Role {
	return func(ctx context.Context, s settings) (outcome, error) {
		options, err := redis.ParseURL(s.URL)
		if err != nil {
			return outcome{}, err
		}
		client := redis.NewClient(options)
		defer client.Close()
		if err := client.Ping(ctx).Err(); err != nil {
			return outcome{}, err
		}
		return run(ctx, client, s)
	}
}

func main() {
	contract.Main(map[string]contract.Role{
		"add":           connected(runAdd),
		"sink":          connected(runSink),
		"reader":        connected(runReader),
		"publish":       connected(runPublish),
		"subscribe":     connected(runSubscribe),
		"idle":          connected(runIdle),
		"map-read":      connected(runMapRead),
		"map-set":       connected(runMapSet),
		"map-inc":       connected(runMapInc),
		"map-publish":   connected(runMapPublish),
		"map-watch":     connected(runMapWatch),
		"map-hear":      connected(runMapHear),
		"map-fleet":     connected(runMapFleet),
		"pool-node":     connected(runPoolNode),
		"pool-survivor": connected(runPoolSurvivor),
		"pool-dispatch": connected(runPoolDispatch),
	})
}
