// Command go is the Go peer of the benchmarks. Of the streams: the commands that Go Pulse sends, on the
// client that Go Pulse uses (go-redis), in the shape of its loops.
//
// It is not Go Pulse itself. It keeps what a rate depends on: one XADD with an approximate MAXLEN
// for each Add, one read loop that hands events through a channel of 1000, one XACK for each
// event, the client's default connection pool. It leaves out what Pulse does beside that
// (keep-alive map, half-second claim lease), so it costs a little less than Pulse would.
//
// The roles of maps and pools are in rmap.go and pool.go, and those are Go Pulse itself.
//
// It follows the contract of benchmarks/contenders/contract.py: a line {"ready": true}, then a
// line on standard input as the signal to begin, then one line with the outcome.
package main

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

	"github.com/redis/go-redis/v9"
	"golang.org/x/sys/unix"
)

const (
	eventName   = "bench.event"
	streamLimit = 1000            // Pulse's default stream length
	maxPolled   = 1000            // Pulse's default COUNT
	bufferSize  = 1000            // Pulse's default channel size
	block       = 5 * time.Second // Pulse's default BLOCK
	latencySkip = 20              // the first events of a latency run warm both sides up
)

// settings are the options that every contender understands.
type settings struct {
	url, stream, group string
	callers            int
	seconds, warmUp    float64
	events, payload    int
	maps               int
	workers, jobs      int
	ttl                float64
	seed               int64
}

// event is what a consumer gets, with the fields of a Pulse event.
type event struct {
	id, stream, name string
	payload          []byte
	createdAt        time.Time
}

// outcome is the line that a contender ends with.
type outcome struct {
	Operations int       `json:"operations"`
	Seconds    float64   `json:"seconds"`
	CPUSeconds float64   `json:"cpu_seconds"`
	SamplesMs  []float64 `json:"samples_ms,omitempty"`

	Figures map[string]float64 `json:"figures,omitempty"`
}

var roles = map[string]func(context.Context, *redis.Client, settings) (outcome, error){
	"add": runAdd, "sink": runSink, "reader": runReader,
	"publish": runPublish, "subscribe": runSubscribe,
}

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("usage: go ROLE --url URL --stream NAME ...")
	}
	role := os.Args[1]
	flags := flag.NewFlagSet(role, flag.ExitOnError)
	var s settings
	flags.StringVar(&s.url, "url", "", "server, redis://host:port/0")
	flags.StringVar(&s.stream, "stream", "", "name of the stream, the map or the pool")
	flags.StringVar(&s.group, "group", "bench", "consumer group")
	flags.IntVar(&s.callers, "callers", 1, "goroutines that add or acknowledge")
	flags.Float64Var(&s.seconds, "seconds", 1, "how long to add")
	flags.Float64Var(&s.warmUp, "warm-up", 0.2, "how long to add before that")
	flags.IntVar(&s.events, "events", 1, "how many events to read or to send")
	flags.IntVar(&s.payload, "payload", 100, "bytes of an event's payload")
	flags.Int64Var(&s.seed, "seed", 1, "seed of the pauses between events")
	flags.IntVar(&s.maps, "maps", 1, "how many maps to join")
	flags.IntVar(&s.workers, "workers", 1, "workers of a node of a pool")
	flags.IntVar(&s.jobs, "jobs", 0, "jobs that run before anything is measured")
	flags.Float64Var(&s.ttl, "ttl", 30, "seconds until a silent worker is given up")
	flags.String("way", "", "for other contenders")
	if err := flags.Parse(os.Args[2:]); err != nil {
		log.Fatal(err)
	}
	options, err := redis.ParseURL(s.url)
	if err != nil {
		log.Fatal(err)
	}
	client := redis.NewClient(options)
	defer client.Close()
	ctx := context.Background()
	if err := client.Ping(ctx).Err(); err != nil {
		log.Fatal(err)
	}
	run, known := roles[role]
	if !known {
		log.Fatalf("unknown role %q", role)
	}
	result, err := run(ctx, client, s)
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		log.Fatal(err)
	}
}

// waitForGo says that everything is prepared and returns when the measurement may begin.
func waitForGo() error {
	fmt.Println(`{"ready": true}`)
	_, err := bufio.NewReader(os.Stdin).ReadString('\n')
	return err
}

func cpuSeconds() float64 {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		log.Fatal(err)
	}
	return float64(usage.Utime.Sec+usage.Stime.Sec) + float64(usage.Utime.Usec+usage.Stime.Usec)/1e6
}

// monotonic is the clock that all processes of one machine share.
func monotonic() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		log.Fatal(err)
	}
	return now.Nano()
}

func key(stream string) string { return "pulse:stream:" + stream }

func add(ctx context.Context, client *redis.Client, stream string, payload []byte) error {
	return client.XAdd(ctx, &redis.XAddArgs{
		Stream: key(stream), MaxLen: streamLimit, Approx: true,
		Values: []any{"n", eventName, "p", payload},
	}).Err()
}

func runAdd(ctx context.Context, client *redis.Client, s settings) (outcome, error) {
	payload := make([]byte, s.payload)
	for i := range payload {
		payload[i] = 'x'
	}
	operation := func() error { return add(ctx, client, s.stream, payload) }
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

// repeatFor lets so many goroutines repeat the operation, and says how often it was done.
func repeatFor(operation func() error, goroutines int, seconds float64) (int, error) {
	deadline := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	var total atomic.Int64
	var failure atomic.Pointer[error]
	var callers sync.WaitGroup
	for range goroutines {
		callers.Add(1)
		go func() {
			defer callers.Done()
			count := int64(0)
			for time.Now().Before(deadline) {
				if err := operation(); err != nil {
					failure.Store(&err)
					return
				}
				count++
			}
			total.Add(count)
		}()
	}
	callers.Wait()
	if err := failure.Load(); err != nil {
		return 0, *err
	}
	return int(total.Load()), nil
}

func toEvent(stream string, message redis.XMessage) event {
	name, _ := message.Values["n"].(string)
	payload, _ := message.Values["p"].(string)
	milliseconds, _, _ := strings.Cut(message.ID, "-")
	stamp, _ := strconv.ParseInt(milliseconds, 10, 64)
	return event{message.ID, stream, name, []byte(payload), time.UnixMilli(stamp).UTC()}
}

// readGroup reads new events of the group into the channel until that many were read.
func readGroup(ctx context.Context, client *redis.Client, s settings, events chan<- event) error {
	for read := 0; read < s.events; {
		streams, err := client.XReadGroup(ctx, &redis.XReadGroupArgs{
			Group: s.group, Consumer: "go", Streams: []string{key(s.stream), ">"},
			Count: maxPolled, Block: block,
		}).Result()
		if err == redis.Nil {
			continue
		}
		if err != nil {
			return err
		}
		for _, message := range streams[0].Messages {
			events <- toEvent(s.stream, message)
			read++
		}
	}
	return nil
}

func runSink(ctx context.Context, client *redis.Client, s settings) (outcome, error) {
	if err := waitForGo(); err != nil {
		return outcome{}, err
	}
	begin, cpu := time.Now(), cpuSeconds()
	if err := client.XGroupCreateMkStream(ctx, key(s.stream), s.group, "0").Err(); err != nil {
		return outcome{}, err
	}
	events := make(chan event, bufferSize)
	var failure atomic.Pointer[error]
	var workers sync.WaitGroup
	for range s.callers {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for next := range events {
				if err := client.XAck(ctx, key(next.stream), s.group, next.id).Err(); err != nil {
					failure.Store(&err)
				}
			}
		}()
	}
	err := readGroup(ctx, client, s, events)
	close(events)
	workers.Wait()
	if err != nil {
		return outcome{}, err
	}
	if err := failure.Load(); err != nil {
		return outcome{}, *err
	}
	return outcome{Operations: s.events, Seconds: time.Since(begin).Seconds(), CPUSeconds: cpuSeconds() - cpu}, nil
}

func runReader(ctx context.Context, client *redis.Client, s settings) (outcome, error) {
	if err := waitForGo(); err != nil {
		return outcome{}, err
	}
	begin, cpu := time.Now(), cpuSeconds()
	events := make(chan event, bufferSize)
	failed := make(chan error, 1)
	go func() {
		defer close(events)
		cursor := "0"
		for read := 0; read < s.events; {
			streams, err := client.XRead(ctx, &redis.XReadArgs{
				Streams: []string{key(s.stream), cursor}, Count: maxPolled, Block: block,
			}).Result()
			if err != nil {
				failed <- err
				return
			}
			for _, message := range streams[0].Messages {
				events <- toEvent(s.stream, message)
				cursor = message.ID
				read++
			}
		}
	}()
	count := 0
	for next := range events {
		if next.name == eventName {
			count++
		}
	}
	select {
	case err := <-failed:
		return outcome{}, err
	default:
	}
	if count != s.events {
		return outcome{}, fmt.Errorf("read %d of %d events", count, s.events)
	}
	return outcome{Operations: count, Seconds: time.Since(begin).Seconds(), CPUSeconds: cpuSeconds() - cpu}, nil
}

// pause waits 5 to 10 ms.
func pause(pauses *rand.Rand) {
	time.Sleep(time.Duration(5e6 + 5e6*pauses.Float64()))
}

// stamp is a value of that size which says when it was made.
func stamp(size int) string { return fmt.Sprintf("%-*d", size, monotonic()) }

// ageMs is how long ago stamp made this value, in milliseconds.
func ageMs(value string) (float64, error) {
	now := monotonic()
	sent, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
	return float64(now-sent) / 1e6, err
}

// runPublish adds events 5 to 10 ms apart, each with the time of its Add in its payload.
func runPublish(ctx context.Context, client *redis.Client, s settings) (outcome, error) {
	pauses := rand.New(rand.NewSource(s.seed))
	if err := waitForGo(); err != nil {
		return outcome{}, err
	}
	begin, cpu := time.Now(), cpuSeconds()
	for range s.events + latencySkip {
		pause(pauses)
		if err := add(ctx, client, s.stream, []byte(stamp(s.payload))); err != nil {
			return outcome{}, err
		}
	}
	return outcome{Operations: s.events, Seconds: time.Since(begin).Seconds(), CPUSeconds: cpuSeconds() - cpu}, nil
}

// runSubscribe takes the published events from a sink and notes how old each one is.
func runSubscribe(ctx context.Context, client *redis.Client, s settings) (outcome, error) {
	if err := client.XGroupCreateMkStream(ctx, key(s.stream), s.group, "$").Err(); err != nil {
		return outcome{}, err
	}
	s.events += latencySkip
	events := make(chan event, bufferSize)
	failed := make(chan error, 1)
	go func() {
		failed <- readGroup(ctx, client, s, events)
		close(events)
	}()
	if err := waitForGo(); err != nil {
		return outcome{}, err
	}
	begin, cpu := time.Now(), cpuSeconds()
	samples := make([]float64, 0, s.events)
	for next := range events {
		age, err := ageMs(string(next.payload))
		if err != nil {
			return outcome{}, err
		}
		samples = append(samples, age)
		if err := client.XAck(ctx, key(next.stream), s.group, next.id).Err(); err != nil {
			return outcome{}, err
		}
	}
	if err := <-failed; err != nil {
		return outcome{}, err
	}
	samples = samples[latencySkip:]
	return outcome{Operations: len(samples), Seconds: time.Since(begin).Seconds(), CPUSeconds: cpuSeconds() - cpu, SamplesMs: samples}, nil
}
