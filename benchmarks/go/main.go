// Command go is the Go peer of the stream benchmarks: the commands that Go Pulse sends, on the
// client that Go Pulse uses (go-redis), in the shape of its loops.
//
// It is not Go Pulse itself. It keeps what a rate depends on: one XADD with an approximate MAXLEN
// for each Add, one read loop that hands events through a channel of 1000, one XACK for each
// event, the client's default connection pool. It leaves out what Pulse does beside that
// (keep-alive map, half-second claim lease), so it costs a little less than Pulse would.
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
	flags.StringVar(&s.stream, "stream", "", "stream name, without pulse:stream:")
	flags.StringVar(&s.group, "group", "bench", "consumer group")
	flags.IntVar(&s.callers, "callers", 1, "goroutines that add or acknowledge")
	flags.Float64Var(&s.seconds, "seconds", 1, "how long to add")
	flags.Float64Var(&s.warmUp, "warm-up", 0.2, "how long to add before that")
	flags.IntVar(&s.events, "events", 1, "how many events to read or to send")
	flags.IntVar(&s.payload, "payload", 100, "bytes of an event's payload")
	flags.Int64Var(&s.seed, "seed", 1, "seed of the pauses between events")
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
	roles := map[string]func(context.Context, *redis.Client, settings) (outcome, error){
		"add": runAdd, "sink": runSink, "reader": runReader,
		"publish": runPublish, "subscribe": runSubscribe,
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
	if _, err := addFor(ctx, client, s, payload, s.warmUp); err != nil {
		return outcome{}, err
	}
	if err := waitForGo(); err != nil {
		return outcome{}, err
	}
	begin, cpu := time.Now(), cpuSeconds()
	count, err := addFor(ctx, client, s, payload, s.seconds)
	return outcome{count, time.Since(begin).Seconds(), cpuSeconds() - cpu, nil}, err
}

func addFor(ctx context.Context, client *redis.Client, s settings, payload []byte, seconds float64) (int, error) {
	deadline := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	var total atomic.Int64
	var failure atomic.Pointer[error]
	var callers sync.WaitGroup
	for range s.callers {
		callers.Add(1)
		go func() {
			defer callers.Done()
			count := int64(0)
			for time.Now().Before(deadline) {
				if err := add(ctx, client, s.stream, payload); err != nil {
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
	return outcome{s.events, time.Since(begin).Seconds(), cpuSeconds() - cpu, nil}, nil
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
	return outcome{count, time.Since(begin).Seconds(), cpuSeconds() - cpu, nil}, nil
}

// runPublish adds events 5 to 10 ms apart, each with the time of its Add in its payload.
func runPublish(ctx context.Context, client *redis.Client, s settings) (outcome, error) {
	pauses := rand.New(rand.NewSource(s.seed))
	if err := waitForGo(); err != nil {
		return outcome{}, err
	}
	begin, cpu := time.Now(), cpuSeconds()
	for range s.events + latencySkip {
		time.Sleep(time.Duration(5+5*pauses.Float64()) * time.Millisecond)
		payload := fmt.Sprintf("%-*d", s.payload, monotonic())
		if err := add(ctx, client, s.stream, []byte(payload)); err != nil {
			return outcome{}, err
		}
	}
	return outcome{s.events, time.Since(begin).Seconds(), cpuSeconds() - cpu, nil}, nil
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
		now := monotonic()
		sent, err := strconv.ParseInt(strings.TrimSpace(string(next.payload)), 10, 64)
		if err != nil {
			return outcome{}, err
		}
		samples = append(samples, float64(now-sent)/1e6)
		if err := client.XAck(ctx, key(next.stream), s.group, next.id).Err(); err != nil {
			return outcome{}, err
		}
	}
	if err := <-failed; err != nil {
		return outcome{}, err
	}
	samples = samples[latencySkip:]
	return outcome{len(samples), time.Since(begin).Seconds(), cpuSeconds() - cpu, samples}, nil
}
