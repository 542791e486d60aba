package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"goa.design/pulse/rmap"

	"pulsewire/benchmarks/go/contract"
)

const (
	mapKeys    = 1000 // keys of a map that is read from or written to
	lastKey    = "last"
	readsATurn = 100_000
)

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
	joined, err := rmap.Join(ctx, s.Stream, client)
	if err != nil {
		return outcome{}, err
	}
	defer joined.Close()
	value := strings.Repeat("x", s.Payload)
	for _, key := range allKeys() {
		if _, err := joined.Set(ctx, key, value); err != nil {
			return outcome{}, err
		}
	}
	if _, err := joined.SetAndWait(ctx, lastKey, value); err != nil {
		return outcome{}, err
	}
	if err := contract.WaitForGo(); err != nil {
		return outcome{}, err
	}
	key, count, found := mapKey(mapKeys/2), 0, 0
	deadline := time.Now().Add(time.Duration(s.Seconds * float64(time.Second)))
	cpu := contract.CPUSeconds()
	for time.Now().Before(deadline) {
		for range readsATurn {
			if _, ok := joined.Get(key); ok {
				found++
			}
		}
		count += readsATurn
	}
	spent := contract.CPUSeconds() - cpu
	if found != count {
		return outcome{}, fmt.Errorf("%d of %d reads found something", found, count)
	}
	return outcome{Operations: count, Seconds: spent, CPUSeconds: spent}, nil
}

// runMapWrites lets as many goroutines as there are callers write, each after the other's key.
func runMapWrites(ctx context.Context, client *redis.Client, s settings, write func(*rmap.Map, string) error) (outcome, error) {
	joined, err := rmap.Join(ctx, s.Stream, client)
	if err != nil {
		return outcome{}, err
	}
	defer joined.Close()
	keys := allKeys()
	var turn atomic.Uint64
	result, _, err := contract.Load(func() error { return write(joined, keys[turn.Add(1)%mapKeys]) }, s)
	return result, err
}

func runMapSet(ctx context.Context, client *redis.Client, s settings) (outcome, error) {
	value := strings.Repeat("x", s.Payload)
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
	joined, err := rmap.Join(ctx, s.Stream, client)
	if err != nil {
		return outcome{}, err
	}
	defer joined.Close()
	if err := contract.WaitForGo(); err != nil {
		return outcome{}, err
	}
	return contract.Spaced(s, func(index int) error {
		_, err := joined.Set(ctx, mapKey(index), contract.Stamp(s.Payload))
		return err
	})
}

// runMapWatch notes how old each value is when it is seen. Pulse says only that something has changed.
func runMapWatch(ctx context.Context, client *redis.Client, s settings) (outcome, error) {
	joined, err := rmap.Join(ctx, s.Stream, client)
	if err != nil {
		return outcome{}, err
	}
	defer joined.Close()
	changed := joined.Subscribe()
	if err := contract.WaitForGo(); err != nil {
		return outcome{}, err
	}
	return contract.Aged(func() ([]float64, error) {
		samples := make([]float64, 0, s.Events+contract.LatencySkip)
		for len(samples) < cap(samples) {
			<-changed
			for {
				value, found := joined.Get(mapKey(len(samples)))
				if !found {
					break
				}
				age, err := contract.AgeMs(value)
				if err != nil {
					return nil, err
				}
				samples = append(samples, age)
			}
		}
		return samples, nil
	})
}

// runMapHear follows a map until the last key is there.
func runMapHear(ctx context.Context, client *redis.Client, s settings) (outcome, error) {
	joined, err := rmap.Join(ctx, s.Stream, client)
	if err != nil {
		return outcome{}, err
	}
	defer joined.Close()
	changed := joined.Subscribe()
	if err := contract.WaitForGo(); err != nil {
		return outcome{}, err
	}
	return contract.Measure(func() (int, error) {
		for range changed {
			if _, found := joined.Get(lastKey); found {
				break
			}
		}
		return s.Events, nil
	})
}

// runMapFleet joins many maps in which nothing happens, and does nothing until the second signal.
func runMapFleet(ctx context.Context, client *redis.Client, s settings) (outcome, error) {
	memory, begin := pssMiB(), time.Now()
	for index := range s.Maps {
		joined, err := rmap.Join(ctx, fmt.Sprintf("%s-%d", s.Stream, index), client)
		if err != nil {
			return outcome{}, err
		}
		defer joined.Close()
	}
	join := float64(time.Since(begin).Microseconds()) / 1e3
	if err := contract.WaitForGo(); err != nil {
		return outcome{}, err
	}
	result, err := contract.Measure(func() (int, error) { return 1, contract.WaitForSignal() })
	result.Figures = map[string]float64{"join_ms": join, "pss_mib": pssMiB() - memory}
	return result, err
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
