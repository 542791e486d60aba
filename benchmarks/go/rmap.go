//go:build pulse

// The map roles, by Go Pulse itself. They need a checkout of Go Pulse, see benchmarks/golang.py: the module is not
// in go.mod, so that the rest builds without it.
package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"goa.design/pulse/rmap"
)

const (
	mapKeys    = 1000 // keys of a map that is read from or written to
	lastKey    = "last"
	readsATurn = 100_000
)

func init() {
	roles["map-read"] = runMapRead
	roles["map-set"] = runMapSet
	roles["map-inc"] = runMapInc
	roles["map-publish"] = runMapPublish
	roles["map-watch"] = runMapWatch
	roles["map-hear"] = runMapHear
	roles["map-fleet"] = runMapFleet
}

func mapKey(index int) string { return "key-" + strconv.Itoa(index) }

func allKeys() []string {
	keys := make([]string, mapKeys)
	for index := range keys {
		keys[index] = mapKey(index)
	}
	return keys
}

// runMapRead gets one key of a thousand again and again. Nothing is waited for, so the CPU time is the time.
func runMapRead(ctx context.Context, client *redis.Client, s settings) (outcome, error) {
	joined, err := rmap.Join(ctx, s.stream, client)
	if err != nil {
		return outcome{}, err
	}
	defer joined.Close()
	value := strings.Repeat("x", s.payload)
	for _, key := range allKeys() {
		if _, err := joined.Set(ctx, key, value); err != nil {
			return outcome{}, err
		}
	}
	if _, err := joined.SetAndWait(ctx, lastKey, value); err != nil {
		return outcome{}, err
	}
	if err := waitForGo(); err != nil {
		return outcome{}, err
	}
	key, count, found := mapKey(mapKeys/2), 0, 0
	deadline := time.Now().Add(time.Duration(s.seconds * float64(time.Second)))
	cpu := cpuSeconds()
	for time.Now().Before(deadline) {
		for range readsATurn {
			if _, ok := joined.Get(key); ok {
				found++
			}
		}
		count += readsATurn
	}
	spent := cpuSeconds() - cpu
	if found != count {
		return outcome{}, fmt.Errorf("%d of %d reads found something", found, count)
	}
	return outcome{Operations: count, Seconds: spent, CPUSeconds: spent}, nil
}

// runMapWrites lets as many goroutines as there are callers write, each after the other's key.
func runMapWrites(ctx context.Context, client *redis.Client, s settings, write func(*rmap.Map, string) error) (outcome, error) {
	joined, err := rmap.Join(ctx, s.stream, client)
	if err != nil {
		return outcome{}, err
	}
	defer joined.Close()
	keys := allKeys()
	var turn atomic.Uint64
	operation := func() error { return write(joined, keys[turn.Add(1)%mapKeys]) }
	if _, err := repeatFor(operation, s.callers, s.warmUp); err != nil {
		return outcome{}, err
	}
	if err := waitForGo(); err != nil {
		return outcome{}, err
	}
	begin, cpu := time.Now(), cpuSeconds()
	count, err := repeatFor(operation, s.callers, s.seconds)
	return outcome{Operations: count, Seconds: time.Since(begin).Seconds(), CPUSeconds: cpuSeconds() - cpu}, err
}

func runMapSet(ctx context.Context, client *redis.Client, s settings) (outcome, error) {
	value := strings.Repeat("x", s.payload)
	return runMapWrites(ctx, client, s, func(joined *rmap.Map, key string) error {
		_, err := joined.Set(ctx, key, value)
		return err
	})
}

func runMapInc(ctx context.Context, client *redis.Client, s settings) (outcome, error) {
	return runMapWrites(ctx, client, s, func(joined *rmap.Map, key string) error {
		_, err := joined.Inc(ctx, key, 1)
		return err
	})
}

// runMapPublish sets keys 5 to 10 ms apart, each value with the time of its Set.
func runMapPublish(ctx context.Context, client *redis.Client, s settings) (outcome, error) {
	joined, err := rmap.Join(ctx, s.stream, client)
	if err != nil {
		return outcome{}, err
	}
	defer joined.Close()
	pauses := rand.New(rand.NewSource(s.seed))
	if err := waitForGo(); err != nil {
		return outcome{}, err
	}
	begin, cpu := time.Now(), cpuSeconds()
	for index := range s.events + latencySkip {
		pause(pauses)
		if _, err := joined.Set(ctx, mapKey(index), stamp(s.payload)); err != nil {
			return outcome{}, err
		}
	}
	return outcome{Operations: s.events, Seconds: time.Since(begin).Seconds(), CPUSeconds: cpuSeconds() - cpu}, nil
}

// runMapWatch notes how old each value is when it is seen. Pulse says only that something has changed.
func runMapWatch(ctx context.Context, client *redis.Client, s settings) (outcome, error) {
	joined, err := rmap.Join(ctx, s.stream, client)
	if err != nil {
		return outcome{}, err
	}
	defer joined.Close()
	changed := joined.Subscribe()
	if err := waitForGo(); err != nil {
		return outcome{}, err
	}
	begin, cpu := time.Now(), cpuSeconds()
	samples := make([]float64, 0, s.events+latencySkip)
	for len(samples) < s.events+latencySkip {
		<-changed
		for {
			value, found := joined.Get(mapKey(len(samples)))
			if !found {
				break
			}
			age, err := ageMs(value)
			if err != nil {
				return outcome{}, err
			}
			samples = append(samples, age)
		}
	}
	result := outcome{Seconds: time.Since(begin).Seconds(), CPUSeconds: cpuSeconds() - cpu, SamplesMs: samples[latencySkip:]}
	result.Operations = len(result.SamplesMs)
	return result, nil
}

// runMapHear follows a map until the last key is there.
func runMapHear(ctx context.Context, client *redis.Client, s settings) (outcome, error) {
	joined, err := rmap.Join(ctx, s.stream, client)
	if err != nil {
		return outcome{}, err
	}
	defer joined.Close()
	changed := joined.Subscribe()
	if err := waitForGo(); err != nil {
		return outcome{}, err
	}
	begin, cpu := time.Now(), cpuSeconds()
	for range changed {
		if _, found := joined.Get(lastKey); found {
			break
		}
	}
	return outcome{Operations: s.events, Seconds: time.Since(begin).Seconds(), CPUSeconds: cpuSeconds() - cpu}, nil
}

// runMapFleet joins many maps in which nothing happens, and does nothing until the second signal.
func runMapFleet(ctx context.Context, client *redis.Client, s settings) (outcome, error) {
	memory, begin := pssMiB(), time.Now()
	for index := range s.maps {
		joined, err := rmap.Join(ctx, fmt.Sprintf("%s-%d", s.stream, index), client)
		if err != nil {
			return outcome{}, err
		}
		defer joined.Close()
	}
	join := float64(time.Since(begin).Microseconds()) / 1e3
	fmt.Println(`{"ready": true}`)
	signals := bufio.NewReader(os.Stdin)
	if _, err := signals.ReadString('\n'); err != nil {
		return outcome{}, err
	}
	begin, cpu := time.Now(), cpuSeconds()
	if _, err := signals.ReadString('\n'); err != nil {
		return outcome{}, err
	}
	result := outcome{Operations: 1, Seconds: time.Since(begin).Seconds(), CPUSeconds: cpuSeconds() - cpu}
	result.Figures = map[string]float64{"join_ms": join, "pss_mib": pssMiB() - memory}
	return result, nil
}

// pssMiB is the memory of this process, pages shared with other processes in part.
func pssMiB() float64 {
	rollup, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		return 0
	}
	found := regexp.MustCompile(`(?m)^Pss:\s+(\d+) kB$`).FindSubmatch(rollup)
	if found == nil {
		return 0
	}
	kilobytes, _ := strconv.ParseFloat(string(found[1]), 64)
	return kilobytes / 1024
}
