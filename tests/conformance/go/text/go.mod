module pulsewire.test/text

go 1.21
