// Package contract is what every Go contender shares: its options, the start signal, the measured region, the load.
// It is benchmarks/contenders/contract.py in Go.
//
// A contender says {"ready": true} when everything is prepared, reads one line as the signal to begin, and ends with
// one line of JSON.
package contract

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// LatencySkip is how many events of a latency run warm both sides up and are not counted.
const LatencySkip = 20

// Settings are the options that every contender understands.
type Settings struct {
	URL           string
	Stream        string // name of the stream, the map or the pool
	Group         string
	Callers       int // goroutines that act at once
	Seconds       float64
	WarmUp        float64
	Events        int
	Payload       int
	Maps          int
	Workers, Jobs int
	TTL           float64
	Pause         float64 // mean seconds between two tasks of a latency run
	Seed          int64
}

// Outcome is the line that a contender ends with.
type Outcome struct {
	Operations int                `json:"operations"`
	Seconds    float64            `json:"seconds"`
	CPUSeconds float64            `json:"cpu_seconds"`
	SamplesMs  []float64          `json:"samples_ms,omitempty"`
	Figures    map[string]float64 `json:"figures,omitempty"`
}

// Role is one thing that a contender can do.
type Role func(context.Context, Settings) (Outcome, error)

// Main is the whole life of a contender: parse, run the role, print the outcome.
func Main(roles map[string]Role) {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("usage: PROGRAM ROLE --url URL --stream NAME ...")
	}
	run, known := roles[os.Args[1]]
	if !known {
		log.Fatalf("unknown role %q", os.Args[1])
	}
	result, err := run(context.Background(), parse(os.Args[1], os.Args[2:]))
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		log.Fatal(err)
	}
}

func parse(role string, arguments []string) Settings {
	flags := flag.NewFlagSet(role, flag.ExitOnError)
	var s Settings
	flags.StringVar(&s.URL, "url", "", "server, redis://host:port/0")
	flags.StringVar(&s.Stream, "stream", "", "name of the stream, the map or the pool")
	flags.StringVar(&s.Group, "group", "bench", "consumer group")
	flags.IntVar(&s.Callers, "callers", 1, "goroutines that act at once")
	flags.Float64Var(&s.Seconds, "seconds", 1, "how long to act")
	flags.Float64Var(&s.WarmUp, "warm-up", 0.2, "how long to act before that")
	flags.IntVar(&s.Events, "events", 1, "how many events or tasks")
	flags.IntVar(&s.Payload, "payload", 100, "bytes that each carries")
	flags.IntVar(&s.Maps, "maps", 1, "how many maps to join")
	flags.IntVar(&s.Workers, "workers", 1, "workers of a node of a pool")
	flags.IntVar(&s.Jobs, "jobs", 0, "jobs that run before anything is measured")
	flags.Float64Var(&s.TTL, "ttl", 30, "seconds until a silent worker is given up")
	flags.Float64Var(&s.Pause, "pause", 0.02, "mean seconds between two tasks of a latency run")
	flags.Int64Var(&s.Seed, "seed", 1, "seed of the pauses")
	flags.String("way", "", "for other contenders")
	if err := flags.Parse(arguments); err != nil {
		log.Fatal(err)
	}
	return s
}

var signals = bufio.NewReader(os.Stdin)

// WaitForGo says that everything is prepared and returns when the measurement may begin.
func WaitForGo() error {
	fmt.Println(`{"ready": true}`)
	return WaitForSignal()
}

// WaitForSignal returns when the session has sent another line.
func WaitForSignal() error {
	_, err := signals.ReadString('\n')
	return err
}

// Measure takes the time and the CPU of what runs inside, which says how often it did its thing.
func Measure(run func() (int, error)) (Outcome, error) {
	begin, cpu := time.Now(), CPUSeconds()
	count, err := run()
	return Outcome{Operations: count, Seconds: time.Since(begin).Seconds(), CPUSeconds: CPUSeconds() - cpu}, err
}

// Load warms up, waits for the signal, and repeats the operation for the settings' time. It also says how often the
// operation was done before.
func Load(operation func() error, s Settings) (Outcome, int, error) {
	before, err := repeatFor(operation, s.Callers, s.WarmUp)
	if err != nil {
		return Outcome{}, 0, err
	}
	if err := WaitForGo(); err != nil {
		return Outcome{}, 0, err
	}
	result, err := Measure(func() (int, error) { return repeatFor(operation, s.Callers, s.Seconds) })
	return result, before, err
}

func repeatFor(operation func() error, goroutines int, seconds float64) (int, error) {
	deadline := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	var total atomic.Int64
	err := AtOnce(goroutines, func() error {
		count := int64(0)
		defer func() { total.Add(count) }()
		for time.Now().Before(deadline) {
			if err := operation(); err != nil {
				return err
			}
			count++
		}
		return nil
	})
	return int(total.Load()), err
}

// AtOnce runs the function in so many goroutines and returns one of their errors.
func AtOnce(goroutines int, run func() error) error {
	var failure atomic.Pointer[error]
	var callers sync.WaitGroup
	for range goroutines {
		callers.Add(1)
		go func() {
			defer callers.Done()
			if err := run(); err != nil {
				failure.Store(&err)
			}
		}()
	}
	callers.Wait()
	if err := failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Spaced acts as often as a latency run has events, warming up included, with pauses of 5 to 10 ms before each.
func Spaced(s Settings, act func(index int) error) (Outcome, error) {
	pauses := rand.New(rand.NewSource(s.Seed))
	return Measure(func() (int, error) {
		for index := range s.Events + LatencySkip {
			time.Sleep(time.Duration(5e6 + 5e6*pauses.Float64()))
			if err := act(index); err != nil {
				return 0, err
			}
		}
		return s.Events, nil
	})
}

// Aged is the outcome of the receiving half of a latency run: run returns the age of each event in milliseconds.
func Aged(run func() ([]float64, error)) (Outcome, error) {
	var samples []float64
	result, err := Measure(func() (int, error) {
		var err error
		samples, err = run()
		return len(samples) - LatencySkip, err
	})
	if err != nil {
		return Outcome{}, err
	}
	result.SamplesMs = samples[LatencySkip:]
	return result, nil
}

// Stamp is a value of that size which says when it was made.
func Stamp(size int) string { return fmt.Sprintf("%-*d", size, Monotonic()) }

// AgeMs is how long ago Stamp made this value, in milliseconds.
func AgeMs(value string) (float64, error) {
	now := Monotonic()
	sent, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
	return float64(now-sent) / 1e6, err
}

// CPUSeconds is the CPU time of this process, user and system.
func CPUSeconds() float64 {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		log.Fatal(err)
	}
	return float64(usage.Utime.Sec+usage.Stime.Sec) + float64(usage.Utime.Usec+usage.Stime.Usec)/1e6
}

// Monotonic is the clock that all processes of one machine share.
func Monotonic() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		log.Fatal(err)
	}
	return now.Nano()
}
